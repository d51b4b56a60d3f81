//! Max-Forwards (RFC 3261 §16.6 step 3): check, count down, insert.

use bytes::Bytes;
use switchroom_kernel::context::{Call, FALSE, Flow, TRUE};
use switchroom_kernel::module::{Function, Module, Param};
use switchroom_wire::sip::HeaderId;

/// The module.
pub static MODULE: Module = Module {
    name: "maxfwd",
    summary: "Max-Forwards",
    params: &[Param::int("max_limit", "256", "Larger received values are cut to this one")],
    functions: &[
        Function::new(
            "mf_process_maxfwd_header",
            &["int"],
            "R",
            process,
            "Count Max-Forwards down, or add it",
        ),
        Function::new("is_maxfwd_lt", &["int"], "RFB", is_less, "Test whether Max-Forwards is below a value"),
    ],
    open: |o| {
        let limit = o.int("max_limit");
        if !(1..=256).contains(&limit) {
            return Err(format!("max_limit is {limit}; it must be from 1 to 256"));
        }
        o.provide(MaxFwd { limit: limit as u32 });
        Ok(())
    },
    ..Module::EMPTY
};

struct MaxFwd {
    limit: u32,
}

/// 2: added with the given value. 1: counted down. -1: it is 0 already. -2: cannot be read.
fn process(c: &mut Call<'_>) -> Flow {
    let max = c.int(0).unwrap_or(0);
    if !(1..=256).contains(&max) {
        tracing::error!("mf_process_maxfwd_header(): {max} is not from 1 to 256");
        return Flow::Value(-2);
    }
    let ctx = &mut *c.ctx;
    let msg = ctx.msg.clone();
    let limit = ctx.shard.kernel.state::<MaxFwd>().limit;
    match msg.max_forwards() {
        Ok(None) => {
            ctx.edits.append_header(format!("Max-Forwards: {max}\r\n").into());
            Flow::Value(2)
        }
        Ok(Some(0)) => FALSE,
        Ok(Some(n)) => {
            let n = n.min(limit + 1) - 1;
            if let Some(h) = msg.header(HeaderId::MaxForwards) {
                ctx.edits.replace_part(&msg, h.value, decimal(n));
            }
            TRUE
        }
        Err(_) => Flow::Value(-2),
    }
}

/// A number as text; the values that are met are at hand.
fn decimal(n: u32) -> Bytes {
    static SMALL: [[u8; 3]; 256] = {
        let mut texts = [[0; 3]; 256];
        let mut n = 0;
        while n < 256 {
            texts[n] = [b'0' + (n / 100) as u8, b'0' + (n / 10 % 10) as u8, b'0' + (n % 10) as u8];
            n += 1;
        }
        texts
    };
    match SMALL.get(n as usize) {
        Some(text) => Bytes::from_static(&text[usize::from(n < 100) + usize::from(n < 10)..]),
        None => Bytes::copy_from_slice(itoa::Buffer::new().format(n).as_bytes()),
    }
}

fn is_less(c: &mut Call<'_>) -> Flow {
    let limit = c.int(0).unwrap_or(0);
    match c.ctx.msg.max_forwards() {
        Ok(Some(n)) if i64::from(n) < limit => TRUE,
        Ok(Some(_)) => FALSE,
        Ok(None) => FALSE,
        Err(_) => Flow::Value(-2),
    }
}
