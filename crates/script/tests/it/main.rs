//! The language from text to effect: statements, operators, errors, transformations and robustness.

mod errors;
mod language;
mod loading;
mod robust;
mod support;
mod transformations;
