//! Which request is legal in which state and from which side: table 2-1 of SMPP 5.0, lenient where the field needs it.

use switchroom_wire::smpp::CommandId;

use super::{Mode, State};

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The external short message entity: binds, submits, receives.
    Application,
    /// The SMS centre.
    Centre,
}

impl Side {
    /// The peer.
    #[must_use]
    pub fn other(self) -> Side {
        match self {
            Side::Application => Side::Centre,
            Side::Centre => Side::Application,
        }
    }
}

/// Whether `from` may send this request in this state. `enquire_link` is always answered.
#[must_use]
pub fn legal(command: CommandId, from: Side, state: State) -> bool {
    use Side::{Application, Centre};
    let bound = match state {
        State::Bound(mode) => Some(mode),
        _ => None,
    };
    match command {
        CommandId::ENQUIRE_LINK => state != State::Closed,
        c if c.is_bind() => from == Application && matches!(state, State::Open | State::Outbound),
        CommandId::OUTBIND => from == Centre && state == State::Open,
        CommandId::UNBIND => bound.is_some(),
        CommandId::SUBMIT_SM
        | CommandId::SUBMIT_MULTI
        | CommandId::QUERY_SM
        | CommandId::CANCEL_SM
        | CommandId::REPLACE_SM
        | CommandId::BROADCAST_SM
        | CommandId::QUERY_BROADCAST_SM
        | CommandId::CANCEL_BROADCAST_SM => from == Application && bound.is_some_and(Mode::submits),
        CommandId::DELIVER_SM | CommandId::ALERT_NOTIFICATION => {
            from == Centre && bound.is_some_and(Mode::receives)
        }
        CommandId::DATA_SM => {
            bound.is_some_and(|m| if from == Application { m.submits() } else { m.receives() })
        }
        _ => false,
    }
}
