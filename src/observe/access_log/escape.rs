//! Text from outside, made harmless inside a log line.
//! It must not know which field it writes.
//! The line formats of the access log use it; no other way leads from a request into a line.

/// Appends the inside of a JSON string. Bytes that are not UTF-8 become U+FFFD; everything a terminal or a
/// log viewer could obey (control characters of both blocks, line separators, direction overrides) is written as `\u`.
pub(super) fn json(out: &mut Vec<u8>, text: &[u8]) {
    let mut rest = text;
    loop {
        let (clean, dirty) = split(rest, is_clean);
        out.extend_from_slice(clean);
        match dirty.first() {
            None => return,
            Some(0x80..) => {
                let run = dirty.iter().take_while(|byte| **byte >= 0x80).count();
                wide(out, &dirty[..run]);
                rest = &dirty[run..];
            }
            Some(&byte) => {
                narrow(out, byte);
                rest = &dirty[1..];
            }
        }
    }
}

/// The part in front that needs no escape, and the rest. Most text is clean to its end, so that is asked first: sixteen bytes
/// at a time, the last sixteen overlapping those before.
fn split(text: &[u8], is_clean: impl Fn(u8) -> bool) -> (&[u8], &[u8]) {
    let is_whole = |chunk: &[u8]| chunk.iter().fold(true, |all, byte| all & is_clean(*byte));
    let is_all = match text.last_chunk::<16>() {
        Some(last) => is_whole(last) && text.chunks_exact(16).all(is_whole),
        None => is_whole(text),
    };
    if is_all {
        return (text, &[]);
    }
    let dirty = text.iter().position(|byte| !is_clean(*byte));
    text.split_at(dirty.unwrap_or(text.len()))
}

fn is_clean(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\'
}

fn narrow(out: &mut Vec<u8>, byte: u8) {
    match byte {
        b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
        b'\n' => out.extend_from_slice(b"\\n"),
        b'\r' => out.extend_from_slice(b"\\r"),
        b'\t' => out.extend_from_slice(b"\\t"),
        byte => unicode(out, u16::from(byte)),
    }
}

fn wide(out: &mut Vec<u8>, bytes: &[u8]) {
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\u{80}'..='\u{9f}'
                | '\u{200e}'
                | '\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2066}'..='\u{2069}'
                | '\u{feff}' => unicode(out, c as u16),
                c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
}

fn unicode(out: &mut Vec<u8>, code: u16) {
    out.extend_from_slice(b"\\u");
    for shift in [12, 8, 4, 0] {
        out.push(HEX[usize::from(code >> shift & 0xf)]);
    }
}

/// Appends the inside of a quoted field as Apache does: quotes and backslashes escaped, and everything that is not
/// printable ASCII as `\xhh`.
pub(super) fn quoted(out: &mut Vec<u8>, text: &[u8]) {
    apache(out, text, is_clean);
}

/// Appends a field that stands without quotes: as [`quoted`], and a space may not split it.
pub(super) fn bare(out: &mut Vec<u8>, text: &[u8]) {
    apache(out, text, |byte| is_clean(byte) && byte != b' ');
}

fn apache(out: &mut Vec<u8>, text: &[u8], is_clean: impl Fn(u8) -> bool + Copy) {
    let mut rest = text;
    loop {
        let (clean, dirty) = split(rest, is_clean);
        out.extend_from_slice(clean);
        let Some((&byte, after)) = dirty.split_first() else {
            return;
        };
        match byte {
            b'"' | b'\\' if is_clean(b' ') => out.extend_from_slice(&[b'\\', byte]),
            byte => hex(out, byte),
        }
        rest = after;
    }
}

fn hex(out: &mut Vec<u8>, byte: u8) {
    let [high, low] = [byte >> 4, byte & 0xf].map(|digit| HEX[usize::from(digit)]);
    out.extend_from_slice(&[b'\\', b'x', high, low]);
}

const HEX: &[u8; 16] = b"0123456789abcdef";

#[cfg(test)]
mod tests {
    use super::*;

    fn escaped(with: fn(&mut Vec<u8>, &[u8]), text: &[u8]) -> String {
        let mut out = Vec::new();
        with(&mut out, text);
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn json_keeps_text_and_disarms_the_rest() {
        let text = "a\"b\\c\n\u{1b}[2J\u{7f} caf\u{e9} \u{9b}31m \u{202e} \u{1f600}".as_bytes();

        let expected = "a\\\"b\\\\c\\n\\u001b[2J\\u007f caf\u{e9} \\u009b31m \\u202e \u{1f600}";
        assert_eq!(escaped(json, text), expected);
        assert_eq!(escaped(json, b"x\xff\xc3y"), "x\u{fffd}\u{fffd}y");
    }

    #[test]
    fn combined_fields_are_printable_ascii() {
        assert_eq!(escaped(quoted, b"a \"b\"\n\xe9"), r#"a \"b\"\x0a\xe9"#);
        assert_eq!(escaped(bare, b"a \"b\""), r"a\x20\x22b\x22");
    }
}
