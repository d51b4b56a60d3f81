//! Reverse Polish notation: numbers are pushed, operators and functions work on the top of the stack.

use super::expression::function;

/// Numbers on the stack.
const MAX_STACK: usize = 1024;

/// The number that is left at the end.
pub fn eval(text: &str) -> Result<f64, String> {
    let mut stack: Vec<f64> = Vec::new();
    for word in text.split_whitespace() {
        step(&mut stack, word)?;
        if stack.len() > MAX_STACK {
            return Err(format!("more than {MAX_STACK} numbers"));
        }
    }
    match stack[..] {
        [result] => Ok(result),
        _ => Err(format!("{} numbers are left instead of one", stack.len())),
    }
}

fn step(stack: &mut Vec<f64>, word: &str) -> Result<(), String> {
    let mut pop = || stack.pop().ok_or_else(|| format!("`{word}` finds no number"));
    let value = match word {
        "+" | "-" | "*" | "/" | "mod" | "pow" | "swap" => {
            let (b, a) = (pop()?, pop()?);
            match word {
                "+" => a + b,
                "-" => a - b,
                "*" => a * b,
                "/" => a / b,
                "mod" => a % b,
                "pow" => a.powf(b),
                _ => {
                    stack.push(b);
                    a
                }
            }
        }
        "drop" => {
            pop()?;
            return Ok(());
        }
        "dup" => {
            let a = pop()?;
            stack.push(a);
            a
        }
        "neg" => -pop()?,
        "cbrt" => pop()?.cbrt(),
        "round" => pop()?.round(),
        "nearbyint" => pop()?.round_ties_even(),
        "trunc" => pop()?.trunc(),
        "e" => std::f64::consts::E,
        "pi" => std::f64::consts::PI,
        name => match (function(name), name.parse::<f64>()) {
            (Some(function), _) => function(pop()?),
            (None, Ok(number)) => number,
            (None, Err(_)) => return Err(format!("\"{name}\" is no number and no operation")),
        },
    };
    stack.push(value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stack_is_worked_on() {
        let result = eval("1 3 swap swap dup drop / exp ln 1 swap /").unwrap();
        assert!((result - 3.0).abs() < 1e-9);
        assert_eq!(eval("7 4 mod 2 pow neg"), Ok(-9.0));
        assert_eq!(eval("2.5 nearbyint"), Ok(2.0));
        for bad in ["", "1 2", "+", "1 +", "x"] {
            assert!(eval(bad).is_err(), "{bad}");
        }
    }
}
