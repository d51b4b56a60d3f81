//! `script_trace()`: a log line for each step of the script from here to the end of its top route.

use std::rc::Rc;

use bytes::Bytes;
use switchroom_kernel::context::{Call, Ctx, Flow, TRUE, Tracer};
use switchroom_kernel::run::{print_format, write_log};
use switchroom_script::Template;
use switchroom_script::vm::TraceStep;

struct LogTracer {
    level: i32,
    /// Printed with each step.
    format: Option<Template>,
    tag: Bytes,
}

impl Tracer for LogTracer {
    fn step(&self, ctx: &mut Ctx, step: &TraceStep<'_>) {
        let wanted = ctx
            .log_level
            .1
            .unwrap_or_else(|| ctx.shard.kernel.xlog_level.load(std::sync::atomic::Ordering::Relaxed));
        if i64::from(self.level) > wanted {
            return;
        }
        let mut line = Vec::with_capacity(96);
        line.extend_from_slice(b"[line ");
        line.extend_from_slice(itoa::Buffer::new().format(step.at.line).as_bytes());
        line.extend_from_slice(b"]");
        if !self.tag.is_empty() {
            line.push(b'[');
            line.extend_from_slice(&self.tag);
            line.push(b']');
        }
        line.push(b'[');
        line.extend_from_slice(step.kind.word().as_bytes());
        if !step.name.is_empty() {
            line.push(b' ');
            line.extend_from_slice(step.name.as_bytes());
        }
        line.extend_from_slice(b"] = ");
        line.extend_from_slice(itoa::Buffer::new().format(step.result).as_bytes());
        if let Some(format) = &self.format {
            line.extend_from_slice(b" -> (");
            line.extend_from_slice(&print_format(ctx, format));
            line.push(b')');
        }
        write_log(self.level, &line);
    }
}

/// `script_trace([level][, format][, tag])`; without arguments tracing ends.
pub fn script_trace(c: &mut Call<'_>) -> Flow {
    if !c.has(0) && !c.has(1) && !c.has(2) {
        c.ctx.trace = c.ctx.shard.tracer.borrow().clone();
        return TRUE;
    }
    let level = i32::try_from(c.int(0).unwrap_or(1)).unwrap_or(1);
    let format = match c.str(1).filter(|f| !f.is_empty()) {
        None => None,
        Some(text) => match Template::compile(text, &c.ctx.shard.kernel.registry) {
            Ok(format) => Some(format),
            Err(e) => {
                tracing::error!("script_trace(): {e}");
                None
            }
        },
    };
    let tag = c.str(2).cloned().unwrap_or_default();
    c.ctx.trace = Some(Rc::new(LogTracer { level, format, tag }));
    TRUE
}
