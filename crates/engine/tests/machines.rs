//! The rows of the state machines of RFC 3261 §17 and RFC 6026, by virtual clock.

#![allow(clippy::disallowed_methods, reason = "an Instant can only be had from the clock")]

use std::time::{Duration, Instant};
use switchroom_engine::transaction::{Timing, client, server};

const T: Timing = Timing {
    t1: 500,
    t2: 4_000,
    t4: 5_000,
    fr: 32_000,
    fr_inv: 180_000,
    wait: 0,
    restart_on_each_reply: true,
};

/// Runs a machine through its deadlines until `limit` ms; the times and outputs seen.
macro_rules! run {
    ($machine:expr, $start:expr, $limit:expr, $timer:expr) => {{
        let mut seen = Vec::new();
        while let Some(at) = $machine.deadline() {
            let ms = (at - $start).as_millis() as u64;
            if ms > $limit {
                break;
            }
            $machine.handle(at, &T, $timer, &mut |o| seen.push((ms, o)));
        }
        seen
    }};
}

struct Client {
    start: Instant,
    machine: client::Machine,
}

impl Client {
    fn new(invite: bool, reliable: bool) -> Client {
        let start = Instant::now();
        let mut sent = Vec::new();
        let machine = client::Machine::start(start, &T, invite, reliable, &mut |o| sent.push(o));
        assert_eq!(sent, [client::Output::Send]);
        Client { start, machine }
    }
    fn at(&mut self, ms: u64, input: client::Input) -> Vec<client::Output> {
        let mut out = Vec::new();
        self.machine.handle(self.start + Duration::from_millis(ms), &T, input, &mut |o| out.push(o));
        out
    }
    fn reply(&mut self, ms: u64, code: u16) -> Vec<client::Output> {
        self.at(ms, client::Input::Reply(code))
    }
    fn until(&mut self, ms: u64) -> Vec<(u64, client::Output)> {
        run!(self.machine, self.start, ms, client::Input::Timer)
    }
}

mod invite_client {
    use super::*;
    use switchroom_engine::transaction::client::{Output::*, State};

    #[test]
    fn timer_a_doubles_until_timer_b() {
        let mut c = Client::new(true, false);
        let seen = c.until(100_000);
        let sends: Vec<u64> = seen.iter().filter(|(_, o)| *o == Send).map(|(ms, _)| *ms).collect();
        assert_eq!(sends, [500, 1500, 3500, 7500, 15500, 31500]);
        assert_eq!(seen[6..], [(32_000, Timeout { after_provisional: false }), (32_000, Terminated)]);
    }

    #[test]
    fn reliable_transport_does_not_retransmit() {
        let mut c = Client::new(true, true);
        assert_eq!(c.until(31_999), []);
    }

    #[test]
    fn provisional_stops_retransmission_and_starts_timer_c() {
        let mut c = Client::new(true, false);
        assert_eq!(c.reply(100, 100), [Deliver(100)]);
        assert_eq!(c.machine.state(), State::Proceeding);
        assert_eq!(c.until(180_099), []);
        assert_eq!(c.reply(1000, 180), [Deliver(180)]);
        assert_eq!(c.until(181_000), [(181_000, Timeout { after_provisional: true })]);
        assert_eq!(c.machine.state(), State::Abandoned);
        assert_eq!(c.reply(181_500, 487), [Ack]);
        assert_eq!(c.until(300_000), [(213_500, Terminated)]);
    }

    #[test]
    fn failure_is_acknowledged_delivered_once_and_absorbed_until_timer_d() {
        for provisional in [false, true] {
            let mut c = Client::new(true, false);
            if provisional {
                c.reply(5, 183);
            }
            assert_eq!(c.reply(10, 486), [Ack, Deliver(486)]);
            assert_eq!(c.machine.state(), State::Completed);
            assert_eq!(c.reply(600, 486), [Ack]);
            assert_eq!(c.reply(601, 180), []);
            assert_eq!(c.reply(602, 200), []);
            assert_eq!(c.until(100_000), [(32_010, Terminated)]);
        }
    }

    #[test]
    fn timer_d_is_zero_on_reliable_transports() {
        let mut c = Client::new(true, true);
        assert_eq!(c.reply(10, 302), [Ack, Deliver(302), Terminated]);
        assert_eq!(c.reply(11, 302), []);
    }

    #[test]
    fn accepted_delivers_every_2xx_until_timer_m() {
        for provisional in [false, true] {
            let mut c = Client::new(true, false);
            if provisional {
                c.reply(5, 180);
            }
            assert_eq!(c.reply(10, 200), [Deliver(200)]);
            assert_eq!(c.reply(500, 200), [Deliver(200)]);
            assert_eq!(c.reply(501, 180), []);
            assert_eq!(c.reply(502, 486), []);
            assert_eq!(c.until(100_000), [(32_010, Terminated)]);
        }
    }

    #[test]
    fn late_2xx_after_timer_c_is_delivered() {
        let mut c = Client::new(true, false);
        c.reply(0, 180);
        c.until(180_000);
        assert_eq!(c.reply(180_001, 200), [Deliver(200)]);
        assert_eq!(c.machine.state(), State::Accepted);
    }

    #[test]
    fn transport_error_ends_it() {
        for state in 0..2 {
            let mut c = Client::new(true, false);
            if state == 1 {
                c.reply(1, 180);
            }
            assert_eq!(c.at(2, client::Input::TransportError), [TransportError, Terminated]);
        }
        let mut c = Client::new(true, false);
        c.reply(1, 486);
        assert_eq!(c.at(2, client::Input::TransportError), [Terminated]);
    }

    #[test]
    fn cancelled_invite_waits_64_t1_for_its_final_reply() {
        let mut c = Client::new(true, false);
        c.reply(0, 180);
        c.at(1000, client::Input::Cancelled);
        assert_eq!(c.until(33_000), [(33_000, Timeout { after_provisional: true })]);
    }
}

mod plain_client {
    use super::*;
    use switchroom_engine::transaction::client::{Output::*, State};

    #[test]
    fn timer_e_doubles_up_to_t2_until_timer_f() {
        let mut c = Client::new(false, false);
        let seen = c.until(100_000);
        let sends: Vec<u64> = seen.iter().filter(|(_, o)| *o == Send).map(|(ms, _)| *ms).collect();
        assert_eq!(sends, [500, 1500, 3500, 7500, 11500, 15500, 19500, 23500, 27500, 31500]);
        assert_eq!(seen[10..], [(32_000, Timeout { after_provisional: false }), (32_000, Terminated)]);
    }

    #[test]
    fn provisional_slows_retransmission_to_t2_and_timer_f_stays() {
        let mut c = Client::new(false, false);
        assert_eq!(c.reply(100, 100), [Deliver(100)]);
        let seen = c.until(100_000);
        let sends: Vec<u64> = seen.iter().filter(|(_, o)| *o == Send).map(|(ms, _)| *ms).collect();
        assert_eq!(sends, [500, 4500, 8500, 12500, 16500, 20500, 24500, 28500]);
        assert_eq!(seen[8], (32_000, Timeout { after_provisional: false }));
    }

    #[test]
    fn final_reply_is_delivered_once_and_absorbed_until_timer_k() {
        for code in [200, 404] {
            let mut c = Client::new(false, false);
            assert_eq!(c.reply(10, code), [Deliver(code)]);
            assert_eq!(c.machine.state(), State::Completed);
            assert_eq!(c.reply(20, code), []);
            assert_eq!(c.until(100_000), [(5_010, Terminated)]);
            let mut c = Client::new(false, true);
            assert_eq!(c.reply(10, code), [Deliver(code), Terminated]);
        }
    }

    #[test]
    fn transport_error_ends_it() {
        let mut c = Client::new(false, false);
        assert_eq!(c.at(2, client::Input::TransportError), [TransportError, Terminated]);
    }
}

struct Server {
    start: Instant,
    machine: server::Machine,
}

impl Server {
    fn new(invite: bool, reliable: bool) -> Server {
        Server { start: Instant::now(), machine: server::Machine::new(invite, reliable) }
    }
    fn at(&mut self, ms: u64, input: server::Input) -> Vec<server::Output> {
        let mut out = Vec::new();
        self.machine.handle(self.start + Duration::from_millis(ms), &T, input, &mut |o| out.push(o));
        out
    }
    fn until(&mut self, ms: u64) -> Vec<(u64, server::Output)> {
        run!(self.machine, self.start, ms, server::Input::Timer)
    }
}

mod invite_server {
    use super::*;
    use switchroom_engine::transaction::server::{Input, Output::*, State};

    #[test]
    fn retransmitted_request_gets_the_last_provisional() {
        let mut s = Server::new(true, false);
        assert_eq!(s.at(0, Input::Retransmission), []);
        assert_eq!(s.at(1, Input::Reply(100)), [SendNew]);
        assert_eq!(s.at(2, Input::Retransmission), [SendLast]);
        assert_eq!(s.at(3, Input::Reply(180)), [SendNew]);
        assert_eq!(s.at(4, Input::Retransmission), [SendLast]);
        assert_eq!(s.machine.deadline(), None);
    }

    #[test]
    fn failure_is_repeated_by_timer_g_until_timer_h() {
        let mut s = Server::new(true, false);
        assert_eq!(s.at(0, Input::Reply(486)), [SendNew]);
        assert_eq!(s.at(1, Input::Retransmission), [SendLast]);
        let seen = s.until(100_000);
        let sends: Vec<u64> = seen.iter().filter(|(_, o)| *o == SendLast).map(|(ms, _)| *ms).collect();
        assert_eq!(sends, [500, 1500, 3500, 7500, 11500, 15500, 19500, 23500, 27500, 31500]);
        assert_eq!(seen[10..], [(32_000, Timeout), (32_000, Terminated)]);
    }

    #[test]
    fn ack_stops_timer_g_and_further_acks_are_absorbed_until_timer_i() {
        let mut s = Server::new(true, false);
        s.at(0, Input::Reply(486));
        assert_eq!(s.at(100, Input::Ack), []);
        assert_eq!(s.machine.state(), State::Confirmed);
        assert_eq!(s.at(101, Input::Ack), []);
        assert_eq!(s.at(102, Input::Retransmission), []);
        assert_eq!(s.until(100_000), [(5_100, Terminated)]);
    }

    #[test]
    fn reliable_transport_waits_for_the_ack_without_repeating() {
        let mut s = Server::new(true, true);
        s.at(0, Input::Reply(486));
        assert_eq!(s.until(31_999), []);
        assert_eq!(s.at(31_999, Input::Ack), [Terminated]);
    }

    #[test]
    fn accepted_absorbs_requests_and_lets_2xx_pass_until_timer_l() {
        let mut s = Server::new(true, false);
        assert_eq!(s.at(0, Input::Reply(200)), [SendNew]);
        assert_eq!(s.machine.state(), State::Accepted);
        assert_eq!(s.at(1, Input::Retransmission), []);
        assert_eq!(s.at(500, Input::Reply(200)), [SendOnly]);
        assert_eq!(s.at(501, Input::Reply(486)), []);
        assert_eq!(s.at(502, Input::Ack), []);
        assert_eq!(s.at(503, Input::TransportError), []);
        assert_eq!(s.until(100_000), [(32_000, Terminated)]);
    }

    #[test]
    fn late_2xx_passes_after_a_failure() {
        let mut s = Server::new(true, false);
        s.at(0, Input::Reply(408));
        assert_eq!(s.at(1, Input::Reply(200)), [SendOnly]);
        assert_eq!(s.at(2, Input::Reply(180)), []);
        assert_eq!(s.at(3, Input::TransportError), [Terminated]);
    }
}

mod plain_server {
    use super::*;
    use switchroom_engine::transaction::server::{Input, Output::*, State};

    #[test]
    fn trying_absorbs_and_proceeding_repeats() {
        let mut s = Server::new(false, false);
        assert_eq!(s.at(0, Input::Retransmission), []);
        assert_eq!(s.machine.state(), State::Trying);
        assert_eq!(s.at(1, Input::Reply(100)), [SendNew]);
        assert_eq!(s.at(2, Input::Retransmission), [SendLast]);
    }

    #[test]
    fn final_reply_is_repeated_on_request_until_timer_j() {
        let mut s = Server::new(false, false);
        assert_eq!(s.at(0, Input::Reply(200)), [SendNew]);
        assert_eq!(s.at(1, Input::Retransmission), [SendLast]);
        assert_eq!(s.at(2, Input::Reply(404)), []);
        assert_eq!(s.until(100_000), [(32_000, Terminated)]);
        let mut s = Server::new(false, true);
        assert_eq!(s.at(0, Input::Reply(404)), [SendNew, Terminated]);
    }
}
