//! An SMS centre, or an application, made of bytes: it says exactly what a test wants it to say.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use switchroom_wire::smpp::frame::{self, Frame};
use switchroom_wire::smpp::{
    Address, Bind, Body, CommandId, Header, MessageId, Pdu, Rules, ShortMessage, Status, Tlvs,
};

/// A machine under load has so long for an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// One end of a connection.
pub struct Smpp {
    stream: TcpStream,
    data: Vec<u8>,
    sequence: u32,
}

impl Smpp {
    /// Waits for a connection.
    #[track_caller]
    pub fn accept(listener: &TcpListener) -> Smpp {
        listener.set_nonblocking(true).unwrap();
        for _ in 0..500 {
            if let Ok((stream, _)) = listener.accept() {
                stream.set_nonblocking(false).unwrap();
                return Smpp::on(stream);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("nobody connects");
    }

    /// Connects, as soon as somebody listens.
    #[track_caller]
    pub fn connect(to: SocketAddr) -> Smpp {
        for _ in 0..250 {
            if let Ok(stream) = TcpStream::connect(to) {
                return Smpp::on(stream);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("nobody listens on {to}");
    }

    fn on(stream: TcpStream) -> Smpp {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Smpp { stream, data: Vec::new(), sequence: 100 }
    }

    /// The next whole PDU.
    #[track_caller]
    pub fn next(&mut self) -> Vec<u8> {
        self.try_next().expect("the connection was closed")
    }

    /// The next whole PDU, or nothing when the peer closed.
    pub fn try_next(&mut self) -> Option<Vec<u8>> {
        loop {
            match frame::next(&self.data, frame::MAX_PDU) {
                Frame::Whole(n) => return Some(self.data.drain(..n).collect()),
                Frame::Partial(_) => {}
                Frame::Broken { .. } => panic!("broken PDU"),
            }
            let mut buffer = [0; 4096];
            match self.stream.read(&mut buffer) {
                Ok(0) => return None,
                Ok(n) => self.data.extend_from_slice(&buffer[..n]),
                Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(e) => panic!("no PDU: {e}"),
            }
        }
    }

    /// The next whole PDU, when one comes in that time.
    pub fn next_within(&mut self, time: Duration) -> Option<Vec<u8>> {
        if let Frame::Whole(n) = frame::next(&self.data, frame::MAX_PDU) {
            return Some(self.data.drain(..n).collect());
        }
        self.stream.set_read_timeout(Some(time)).unwrap();
        let mut buffer = [0; 16384];
        let mut whole = None;
        while let Ok(n @ 1..) = self.stream.read(&mut buffer) {
            self.data.extend_from_slice(&buffer[..n]);
            if let Frame::Whole(n) = frame::next(&self.data, frame::MAX_PDU) {
                whole = Some(self.data.drain(..n).collect());
                break;
            }
        }
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        whole
    }

    /// Writes bytes; false when the peer has gone.
    pub fn try_write(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// Writes bytes.
    pub fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Sends a PDU.
    pub fn send(&mut self, header: Header, body: Body<'_>) {
        let mut out = Vec::new();
        Pdu { header, body }.write(&mut out);
        self.write(&out);
    }

    /// Accepts the bind that comes next; gives the command, system_id and password.
    #[track_caller]
    pub fn accept_bind(&mut self) -> (CommandId, String, String) {
        let pdu = self.next();
        let pdu = Pdu::read(&pdu, Rules::STRICT).unwrap();
        let Body::Bind(bind) = pdu.body else { panic!("no bind: {pdu:?}") };
        let text = |t: &[u8]| String::from_utf8_lossy(t).into_owned();
        let said = (pdu.header.command, text(bind.system_id), text(bind.password));
        let body = Body::BindResponse { system_id: b"centre", tlvs: Tlvs::default() };
        self.send(pdu.header.answer(Status::OK), body);
        said
    }

    /// Answers a `submit_sm` or `deliver_sm`.
    pub fn answer(&mut self, request: Header, status: Status, id: &str) {
        let id = MessageId { id: id.as_bytes(), present: true, tlvs: Tlvs::default() };
        self.send(
            request.answer(status),
            if status == Status::OK { Body::MessageId(id) } else { Body::Empty },
        );
    }

    /// Sends a message and gives its sequence number.
    pub fn message(&mut self, command: CommandId, from: &str, to: &str, message: ShortMessage<'_>) -> u32 {
        self.sequence += 1;
        let party = |addr| Address { ton: 1, npi: 1, addr };
        let (source, destination) = (party(from.as_bytes()), party(to.as_bytes()));
        let message = ShortMessage { source, destination, ..message };
        self.send(Header::request(command, self.sequence), Body::Message(message));
        self.sequence
    }

    /// Binds as an application; gives the status.
    #[track_caller]
    pub fn bind(&mut self, command: CommandId, system_id: &str, password: &str) -> Status {
        let bind = Bind {
            system_id: system_id.as_bytes(),
            password: password.as_bytes(),
            interface_version: 0x34,
            ..Bind::default()
        };
        self.send(Header::request(command, 1), Body::Bind(bind));
        Header::read(&self.next()).unwrap().status
    }

    /// The header of the next PDU.
    #[track_caller]
    pub fn header(&mut self) -> Header {
        Header::read(&self.next()).unwrap()
    }
}
