//! `switchroom fmt`: stable formatting of scripts, in place.

use std::io::{Read, Write};
use std::process::ExitCode;

use anyhow::Context;
use switchroom_script::format::format;

use crate::cli::FmtArgs;

/// Format the files, or tell which are not.
pub fn fmt(args: &FmtArgs) -> anyhow::Result<ExitCode> {
    let mut clean = true;
    for file in &args.files {
        if file == "-" {
            let mut text = Vec::new();
            std::io::stdin().read_to_end(&mut text).context("standard input")?;
            let new = format(&text)?;
            clean &= new == text;
            if !args.check {
                std::io::stdout().write_all(&new).context("standard output")?;
            }
            continue;
        }
        let text = std::fs::read(file).with_context(|| format!("cannot read \"{file}\""))?;
        let new = format(&text).with_context(|| file.clone())?;
        if new == text {
            continue;
        }
        clean = false;
        match args.check {
            true => println!("{file}: not formatted"),
            false => std::fs::write(file, new).with_context(|| format!("cannot write \"{file}\""))?,
        }
    }
    Ok(if clean || !args.check { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
