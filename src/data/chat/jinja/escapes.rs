//! String literals: what Python's `unicode-escape` makes of a backslash and what follows it.

/// The text that a literal, without its quotes, stands for.
pub fn unescape(literal: &str) -> Result<String, String> {
    let mut text = String::with_capacity(literal.len());
    let mut rest = literal;
    while let Some(at) = rest.find('\\') {
        text += &rest[..at];
        rest = &rest[at + 1..];
        let Some(char) = rest.chars().next() else {
            return Err("a string ends in a backslash".to_owned());
        };
        rest = &rest[char.len_utf8()..];
        match char {
            '\n' => {}
            '\\' | '\'' | '"' => text.push(char),
            'a' => text.push('\x07'),
            'b' => text.push('\x08'),
            'f' => text.push('\x0c'),
            'n' => text.push('\n'),
            'r' => text.push('\r'),
            't' => text.push('\t'),
            'v' => text.push('\x0b'),
            '0'..='7' => {
                let more = rest.bytes().take(2).take_while(|it| (b'0'..=b'7').contains(it)).count();
                let digits = format!("{char}{}", &rest[..more]);
                rest = &rest[more..];
                text.push(code(&digits, 8)?);
            }
            'x' | 'u' | 'U' => {
                let width = match char {
                    'x' => 2,
                    'u' => 4,
                    _ => 8,
                };
                let hex = rest.bytes().take(width).take_while(u8::is_ascii_hexdigit).count();
                let digits = &rest[..hex];
                text.push(code(digits, 16).ok().filter(|_| hex == width).ok_or_else(|| {
                    format!("a string has `\\{char}{digits}`, which stands for no character")
                })?);
                rest = &rest[width..];
            }
            'N' => return Err("a string names a character with `\\N`; write it out".to_owned()),
            // The codec sees what lies beyond ASCII as escapes, and the backslash before as theirs.
            other if !other.is_ascii() => {
                text.push('\\');
                text += &match u32::from(other) {
                    code @ ..=0xff => format!("x{code:02x}"),
                    code @ ..=0xffff => format!("u{code:04x}"),
                    code => format!("U{code:08x}"),
                };
            }
            other => {
                text.push('\\');
                text.push(other);
            }
        }
    }
    Ok(text + rest)
}

fn code(digits: &str, radix: u32) -> Result<char, String> {
    u32::from_str_radix(digits, radix)
        .ok()
        .and_then(char::from_u32)
        .ok_or_else(|| format!("a string has an escape of `{digits}`, which is no character"))
}
