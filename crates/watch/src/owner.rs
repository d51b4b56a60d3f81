//! Owner, group and permissions of what management makes in the file system.

/// The number of a user or group given by name or number; `None` when it is not given. In both files the first field is
/// the name and the third the number.
pub fn number(name: Option<&str>, parameter: &str, file: &str) -> Result<Option<u32>, String> {
    let Some(name) = name.filter(|n| !n.is_empty()) else { return Ok(None) };
    if let Ok(n) = name.parse() {
        return Ok(Some(n));
    }
    let text = std::fs::read_to_string(file).map_err(|e| format!("{parameter}: {file}: {e}"))?;
    let mut lines = text.lines().map(|l| l.split(':'));
    let found = lines.find_map(|mut fields| {
        let own = fields.next()? == name;
        fields.nth(1).filter(|_| own)?.parse().ok()
    });
    found.map(Some).ok_or_else(|| format!("{parameter} \"{name}\" is not in {file}"))
}

/// Permissions. The script reads `0660` as octal; a string and the default are read so here.
pub fn mode(parameter: &str, text: &str) -> Result<u32, String> {
    let radix = if text.starts_with('0') { 8 } else { 10 };
    let mode = u32::from_str_radix(text, radix).ok().filter(|m| *m <= 0o777);
    mode.ok_or_else(|| format!("{parameter} {text} is no set of permissions; write for example 0660"))
}
