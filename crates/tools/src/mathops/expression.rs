//! Expressions: `+ - * / % ^`, parentheses and functions of one argument, with the usual precedence; powers are taken from
//! left to right.

/// Deepest nesting of parentheses.
const MAX_DEPTH: usize = 64;

/// The value of an expression.
pub fn eval(text: &str) -> Result<f64, String> {
    let mut reader = Reader { rest: text, depth: 0 };
    let value = reader.sum()?;
    match reader.peek() {
        None => Ok(value),
        Some(_) => Err(format!("\"{}\" is too much", reader.rest)),
    }
}

/// A function of one argument by its name.
pub fn function(name: &str) -> Option<fn(f64) -> f64> {
    Some(match name {
        "abs" => f64::abs,
        "acos" => f64::acos,
        "asin" => f64::asin,
        "atan" => f64::atan,
        "ceil" => f64::ceil,
        "cos" => f64::cos,
        "cosh" => f64::cosh,
        "exp" => f64::exp,
        "floor" => f64::floor,
        "ln" => f64::ln,
        "log" | "log10" => f64::log10,
        "sin" => f64::sin,
        "sinh" => f64::sinh,
        "sqrt" => f64::sqrt,
        "tan" => f64::tan,
        "tanh" => f64::tanh,
        _ => return None,
    })
}

struct Reader<'a> {
    rest: &'a str,
    depth: usize,
}

impl Reader<'_> {
    fn peek(&mut self) -> Option<char> {
        self.rest = self.rest.trim_start();
        self.rest.chars().next()
    }

    fn take(&mut self, c: char) -> bool {
        let found = self.peek() == Some(c);
        if found {
            self.rest = &self.rest[c.len_utf8()..];
        }
        found
    }

    fn sum(&mut self) -> Result<f64, String> {
        let mut value = self.product()?;
        loop {
            if self.take('+') {
                value += self.product()?;
            } else if self.take('-') {
                value -= self.product()?;
            } else {
                return Ok(value);
            }
        }
    }

    fn product(&mut self) -> Result<f64, String> {
        let mut value = self.power()?;
        loop {
            if self.take('*') {
                value *= self.power()?;
            } else if self.take('/') {
                value /= self.power()?;
            } else if self.take('%') {
                value %= self.power()?;
            } else {
                return Ok(value);
            }
        }
    }

    fn power(&mut self) -> Result<f64, String> {
        let mut value = self.signed()?;
        while self.take('^') {
            value = value.powf(self.signed()?);
        }
        Ok(value)
    }

    fn signed(&mut self) -> Result<f64, String> {
        let mut sign = 1.0;
        loop {
            if self.take('-') {
                sign = -sign;
            } else if !self.take('+') {
                return Ok(sign * self.atom()?);
            }
        }
    }

    fn atom(&mut self) -> Result<f64, String> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(format!("nested more than {MAX_DEPTH} deep"));
        }
        let value = match self.peek() {
            Some('(') => self.parentheses(),
            Some(c) if c.is_ascii_digit() || c == '.' => self.number(),
            Some(c) if c.is_ascii_alphabetic() => self.named(),
            Some(c) => Err(format!("a number is missing before \"{c}\"")),
            None => Err("a number is missing at the end".into()),
        };
        self.depth -= 1;
        value
    }

    fn parentheses(&mut self) -> Result<f64, String> {
        self.take('(');
        let value = self.sum()?;
        if self.take(')') { Ok(value) } else { Err("a `)` is missing".into()) }
    }

    fn number(&mut self) -> Result<f64, String> {
        let bytes = self.rest.as_bytes();
        let mut end = 0;
        while let Some(b) = bytes.get(end) {
            let sign = matches!(b, b'+' | b'-') && matches!(bytes[end.saturating_sub(1)], b'e' | b'E');
            if !(b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E') || (sign && end > 0)) {
                break;
            }
            end += 1;
        }
        let (number, rest) = self.rest.split_at(end);
        self.rest = rest;
        number.parse().map_err(|_| format!("\"{number}\" is no number"))
    }

    fn named(&mut self) -> Result<f64, String> {
        let end = self.rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(end);
        let name = name.to_owned();
        self.rest = rest;
        match name.as_str() {
            "e" => return Ok(std::f64::consts::E),
            "pi" => return Ok(std::f64::consts::PI),
            _ => {}
        }
        let function = function(&name).ok_or_else(|| format!("there is no function \"{name}\""))?;
        if self.peek() == Some('(') { Ok(function(self.parentheses()?)) } else { Ok(function(self.atom()?)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn precedence_is_the_usual_one_and_powers_go_from_left_to_right() {
        for (text, wanted) in [
            ("1 + 2 * 3", 7.0),
            ("(1+2)*3", 9.0),
            ("2^3^2", 64.0),
            ("-2 + 7 % 4", 1.0),
            ("sqrt(16) / 2", 2.0),
            ("1e3 - 1.5e-1", 999.85),
            ("abs(-3) + floor 2.7", 5.0),
            ("--2", 2.0),
        ] {
            assert_eq!(eval(text), Ok(wanted), "{text}");
        }
    }

    #[test]
    fn what_is_no_expression_is_refused() {
        let deep = "(".repeat(1000);
        for bad in ["", "1 +", "(1", "1 2", "foo(1)", "1e", &deep, "ü"] {
            assert!(eval(bad).is_err(), "{bad}");
        }
    }
}
