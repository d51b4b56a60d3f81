//! A call as text: who sent what to whom, and when.

use std::fmt;
use std::time::{Duration, Instant};

/// One message.
struct Step {
    at: Duration,
    phone: &'static str,
    to_server: bool,
    text: String,
}

/// All messages of a call, as the phones saw them.
pub struct Ladder {
    start: Instant,
    steps: Vec<Step>,
}

impl Ladder {
    /// Times count from `start`.
    pub fn new(start: Instant) -> Ladder {
        Ladder { start, steps: Vec::new() }
    }

    /// Note a message: its first line is shown.
    pub fn note(&mut self, phone: &'static str, to_server: bool, message: &[u8]) {
        let line = message.split(|b| *b == b'\r').next().unwrap_or_default();
        let line = String::from_utf8_lossy(line);
        let text = match line.strip_prefix("SIP/2.0 ") {
            Some(status) => status.to_owned(),
            None => line.split(' ').next().unwrap_or_default().to_owned(),
        };
        self.steps.push(Step { at: self.start.elapsed(), phone, to_server, text });
    }
}

impl fmt::Display for Ladder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const W: usize = 34;
        writeln!(f, "\n{:>10}  {:<w$}{:<w$}bob", "ms", "alice", "switchroom", w = W)?;
        for s in &self.steps {
            let right = s.phone == "alice" && s.to_server || s.phone == "bob" && !s.to_server;
            let text: String = s.text.chars().take(W - 8).collect();
            let dashes = "-".repeat(W - 4 - text.chars().count().min(W - 4));
            let arrow = if right { format!("{text} {dashes}>") } else { format!("<{dashes} {text}") };
            let (first, second) =
                if s.phone == "alice" { (arrow, String::new()) } else { (String::new(), arrow) };
            let ms = s.at.as_secs_f64() * 1000.0;
            writeln!(f, "{ms:>10.2}  |{first:<w$}|{second:<w$}|", w = W - 1)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrows_point_from_sender_to_receiver() {
        let mut l = Ladder::new(Instant::now());
        l.note("alice", true, b"INVITE sip:bob@a SIP/2.0\r\n");
        l.note("bob", false, b"INVITE sip:bob@a SIP/2.0\r\n");
        l.note("alice", false, b"SIP/2.0 180 Ringing\r\n");
        let text = l.to_string();
        let lines: Vec<&str> = text.lines().skip(2).collect();
        assert!(lines[0].contains("|INVITE -"), "{text}");
        assert!(lines[1].contains("|                                 |INVITE -"), "{text}");
        assert!(lines[2].contains("|<--") && lines[2].contains("180 Ringing"), "{text}");
    }
}
