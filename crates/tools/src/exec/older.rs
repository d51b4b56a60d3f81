//! The functions of older releases: `exec_msg()`, `exec_dset()`, `exec_avp()` and `exec_getenv()`. Today's scripts call
//! `exec()` and read `$env(name)`.

use bytes::Bytes;
use switchroom_kernel::context::{Call, Ctx, FALSE, Flow, TRUE, Target, wait};
use switchroom_kernel::oneshot;
use switchroom_script::Value;
use switchroom_wire::sip::Uri;

use super::program::{self, Finished, Program, ProgramError};
use super::{Exec, message_variables};
use crate::variables::one;

/// Lines of output that are used.
const MAX_LINES: usize = 32;

fn start(
    c: &Call<'_>,
    command: Bytes,
    input: Option<Bytes>,
    output: bool,
) -> Result<oneshot::Receiver<Result<Finished, ProgramError>>, ProgramError> {
    let shard = c.ctx.shard.clone();
    let state = shard.kernel.state::<Exec>();
    let environment = if state.set_variables { message_variables(c.ctx) } else { Vec::new() };
    let program = Program { command, input, environment, output, errors: false, limit: state.limit };
    let (done, answer) = oneshot::channel();
    program::start(program, state.running.clone(), move |finished| done.send(finished))?;
    Ok(answer)
}

/// `exec_msg(command)`: the program reads the message; nobody reads what it says.
pub(super) fn message(c: &mut Call<'_>) -> Flow {
    let command = c.str(0).cloned().unwrap_or_default();
    let message = Bytes::copy_from_slice(c.ctx.msg.raw());
    match start(c, command, Some(message), false) {
        Ok(_) => TRUE,
        Err(e) => {
            tracing::error!("exec_msg(): {e}");
            FALSE
        }
    }
}

/// Do something with the lines a program says.
fn with_lines(
    c: &Call<'_>,
    name: &'static str,
    command: Bytes,
    then: impl FnOnce(&mut Ctx, Vec<Bytes>) -> Flow + 'static,
) -> Flow {
    let answer = match start(c, command, None, true) {
        Ok(answer) => answer,
        Err(e) => {
            tracing::error!("{name}(): {e}");
            return FALSE;
        }
    };
    wait(answer, move |ctx, finished| match finished {
        Some(Ok(finished)) => {
            let lines = finished.output.split(|b| *b == b'\n').map(<[u8]>::trim_ascii);
            then(ctx, lines.filter(|l| !l.is_empty()).take(MAX_LINES).map(Bytes::copy_from_slice).collect())
        }
        Some(Err(e)) => {
            tracing::error!("{name}(): {e}");
            FALSE
        }
        None => FALSE,
    })
}

/// `exec_dset(command)`: the Request-URI is the last argument; each line is a URI, the first the new Request-URI, the others
/// branches.
pub(super) fn destinations(c: &mut Call<'_>) -> Flow {
    let mut command = c.str(0).cloned().unwrap_or_default().to_vec();
    // A peer wrote the URI: the shell must not read it.
    command.extend_from_slice(b" '");
    for b in c.ctx.ruri().iter() {
        match b {
            b'\'' => command.extend_from_slice(b"'\\''"),
            b => command.push(*b),
        }
    }
    command.push(b'\'');
    with_lines(c, "exec_dset", command.into(), |ctx, lines| {
        let mut uris = lines.into_iter().filter(|line| {
            let good = Uri::parse(line).is_ok();
            if !good {
                tracing::error!("exec_dset(): \"{}\" is no URI", String::from_utf8_lossy(line));
            }
            good
        });
        let Some(first) = uris.next() else { return FALSE };
        ctx.target = Target { uri: Some(first), ..Target::unchanged() };
        for uri in uris {
            ctx.branches.push(Target { uri: Some(uri), ..Target::unchanged() });
        }
        TRUE
    })
}

/// `exec_avp(command[, "$avp(a) $avp(b)"])`: each line into the next AVP of the list; those beyond it into
/// the AVP whose name is the line's number.
pub(super) fn avps(c: &mut Call<'_>) -> Flow {
    let command = c.str(0).cloned().unwrap_or_default();
    let names = c.text(1);
    let names = names.split([' ', ',', ';', '\t']).filter(|n| !n.is_empty());
    let mut list = Vec::new();
    for name in names {
        match one(&c.ctx.shard.kernel.registry, name) {
            Ok(var) => list.push(var),
            Err(e) => {
                tracing::error!("exec_avp(): {e}");
                return FALSE;
            }
        }
    }
    with_lines(c, "exec_avp", command, move |ctx, lines| {
        for (i, line) in lines.into_iter().enumerate() {
            let stored = match list.get(i) {
                Some(var) => ctx.set_var(var, Value::Str(line)),
                None => numbered(ctx, i + 1, line),
            };
            if let Err(e) = stored {
                tracing::error!("exec_avp(): {e}");
                return FALSE;
            }
        }
        TRUE
    })
}

/// `exec_getenv(name[, $avp(x)])`
pub(super) fn environment(c: &mut Call<'_>) -> Flow {
    let name = c.text(0);
    let valid = !name.is_empty() && !name.contains(['=', '\0']);
    let Some(value) = std::env::var_os(&name).filter(|_| valid) else { return FALSE };
    let value = Bytes::copy_from_slice(std::os::unix::ffi::OsStrExt::as_bytes(&*value));
    let stored = match c.var(1) {
        Some(var) => c.ctx.set_var(&var, Value::Str(value)),
        None => numbered(c.ctx, 1, value),
    };
    match stored {
        Ok(()) => TRUE,
        Err(e) => {
            tracing::error!("exec_getenv(): {e}");
            FALSE
        }
    }
}

/// Into `$avp(number)`.
fn numbered(ctx: &mut Ctx, number: usize, value: Bytes) -> Result<(), String> {
    let names = &ctx.shard.kernel.registry.names;
    let key = names.intern(&number.to_string()).map_err(|_| "too many names".to_owned())?;
    ctx.avps.push(key, Value::Str(value));
    Ok(())
}
