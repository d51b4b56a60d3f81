//! Calculation with decimal numbers, which the language itself has not.

mod expression;
mod rpn;

use switchroom_kernel::context::{Call, FALSE, Flow, TRUE};
use switchroom_kernel::module::{Function, Module, Param};
use switchroom_script::Value;

use crate::variables::put;

/// The module.
pub static MODULE: Module = Module {
    name: "mathops",
    summary: "Calculation with decimal numbers",
    params: &[Param::int("decimal_digits", "6", "Digits behind the point of results")],
    functions: &[
        Function::new("math_eval", &["str,var"], "*", eval, "Calculate an expression"),
        Function::new("math_rpn", &["str,var"], "*", reverse, "Calculate in reverse Polish notation"),
        Function::new("math_floor", &["str,var"], "*", |c| whole(c, f64::floor), "Round down"),
        Function::new("math_ceil", &["str,var"], "*", |c| whole(c, f64::ceil), "Round up"),
        Function::new("math_trunc", &["str,var"], "*", |c| whole(c, f64::trunc), "Round towards 0"),
        Function::new("math_round", &["str,var,[int]"], "*", round, "Round to a number of digits"),
        Function::new(
            "math_round_sf",
            &["str,var,[int]"],
            "*",
            round_figures,
            "Round to a number of figures",
        ),
        Function::new("math_compare", &["str,str,var"], "*", compare, "Compare: -1, 0 or 1"),
    ],
    open: |o| {
        let digits = usize::try_from(o.int("decimal_digits")).ok().filter(|d| *d <= MAX_DIGITS);
        o.provide(MathOps { digits: digits.ok_or("decimal_digits must be from 0 to 15")? });
        Ok(())
    },
    ..Module::EMPTY
};

/// A 64-bit floating point number has no more.
const MAX_DIGITS: usize = 15;

struct MathOps {
    digits: usize,
}

fn number(c: &Call<'_>, i: usize) -> Option<f64> {
    let text = c.text(i);
    let number = text.trim().parse::<f64>().ok().filter(|n| n.is_finite());
    if number.is_none() {
        tracing::error!("mathops: \"{text}\" is no number");
    }
    number
}

fn write(c: &mut Call<'_>, result: Result<f64, String>, digits: Option<usize>) -> Flow {
    let digits = digits.unwrap_or_else(|| c.ctx.shard.kernel.state::<MathOps>().digits);
    match (result, c.var(1)) {
        (Ok(n), Some(out)) if n.is_finite() => {
            flow(put(c.ctx, "mathops", &out, Value::str(format!("{n:.digits$}"))))
        }
        (Ok(_), _) => {
            tracing::error!("mathops: \"{}\" has no finite result", c.text(0));
            FALSE
        }
        (Err(e), _) => {
            tracing::error!("mathops: \"{}\": {e}", c.text(0));
            FALSE
        }
    }
}

fn flow(done: bool) -> Flow {
    if done { TRUE } else { FALSE }
}

/// `math_eval(expression, out)`
fn eval(c: &mut Call<'_>) -> Flow {
    let result = expression::eval(&c.text(0));
    write(c, result, None)
}

/// `math_rpn(expression, out)`
fn reverse(c: &mut Call<'_>) -> Flow {
    let result = rpn::eval(&c.text(0));
    write(c, result, None)
}

fn whole(c: &mut Call<'_>, rounded: fn(f64) -> f64) -> Flow {
    let (Some(n), Some(out)) = (number(c, 0), c.var(1)) else { return FALSE };
    flow(put(c.ctx, "mathops", &out, Value::Int(rounded(n) as i64)))
}

/// `math_round(number, out[, digits])`
fn round(c: &mut Call<'_>) -> Flow {
    let Some(digits) = c.int(2).filter(|d| *d > 0) else { return whole(c, f64::round) };
    let Some(n) = number(c, 0) else { return FALSE };
    let digits = digits.min(MAX_DIGITS as i64);
    let scale = 10f64.powi(digits as i32);
    write(c, Ok((n * scale).round() / scale), Some(digits as usize))
}

/// `math_round_sf(number, out[, figures])`
fn round_figures(c: &mut Call<'_>) -> Flow {
    let Some(n) = number(c, 0) else { return FALSE };
    let figures = c.int(2).unwrap_or(1).clamp(1, MAX_DIGITS as i64);
    let magnitude = if n == 0.0 { 0 } else { n.abs().log10().floor() as i64 };
    let digits = figures - 1 - magnitude;
    let scale = 10f64.powi(digits as i32);
    write(c, Ok((n * scale).round() / scale), Some(digits.clamp(0, MAX_DIGITS as i64) as usize))
}

/// `math_compare(number, number, out)`
fn compare(c: &mut Call<'_>) -> Flow {
    let (Some(a), Some(b), Some(out)) = (number(c, 0), number(c, 1), c.var(2)) else { return FALSE };
    let order = a.partial_cmp(&b).map_or(0, |o| o as i64);
    flow(put(c.ctx, "math_compare", &out, Value::Int(order)))
}
