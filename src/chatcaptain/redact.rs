//! Masks the API key in text that users read, in whichever form the service or a gateway echoes it: as it is, with JSON
//! escapes, percent-encoded, or in base64.
//!
//! For messages of failures. What the service answers otherwise stays as it is: a name may contain what resembles a key.

const MASK: &str = "<key>";
/// The last two characters differ in the form for URLs.
const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Replaces each echo of the key.
pub fn redact(text: &str, key: &str) -> String {
    let plain = mask(text, |text| match_length(text, key.as_bytes()));
    (0..3).fold(plain, |text, offset| {
        let encoded = base64_of(key.as_bytes(), offset);
        mask(&text, |text| {
            let length = match_length(text, &encoded)?;
            // the characters that also depend on what follows the key, and the padding
            let end = text[length..].iter().take_while(|byte| is_base64(**byte));
            Some(length + end.count())
        })
    })
}

/// `match_at` says how many bytes at the start of a text are to be masked. They must be ASCII.
fn mask(text: &str, match_at: impl Fn(&[u8]) -> Option<usize>) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut end = 0;
    for (start, character) in text.char_indices() {
        if start < end {
            continue;
        }
        if let Some(length) = match_at(&text.as_bytes()[start..]) {
            masked.push_str(MASK);
            end = start + length;
        } else {
            masked.push(character);
        }
    }
    masked
}

/// How many bytes at the start of `text` are `secret`, each of its bytes in whichever form.
fn match_length(text: &[u8], secret: &[u8]) -> Option<usize> {
    let Some((first, remaining)) = secret.split_first() else {
        return Some(0);
    };
    let forms = [literal(text, *first), json_escape(text, *first), percent_encoding(text, *first)];
    forms.into_iter().flatten().find_map(|length| Some(length + match_length(&text[length..], remaining)?))
}

fn literal(text: &[u8], byte: u8) -> Option<usize> {
    let found = *text.first()?;
    let for_urls = matches!((byte, found), (b'+', b'-') | (b'/', b'_'));
    (found == byte || for_urls).then_some(1)
}

fn json_escape(text: &[u8], byte: u8) -> Option<usize> {
    match text.strip_prefix(b"\\")? {
        [b'u', b'0', b'0', hex @ ..] if hex_byte(hex) == Some(byte) => Some(6),
        [escaped @ (b'"' | b'\\' | b'/'), ..] if *escaped == byte => Some(2),
        _ => None,
    }
}

fn percent_encoding(text: &[u8], byte: u8) -> Option<usize> {
    (hex_byte(text.strip_prefix(b"%")?)? == byte).then_some(3)
}

fn hex_byte(text: &[u8]) -> Option<u8> {
    let digits = std::str::from_utf8(text.get(..2)?).ok()?;
    u8::from_str_radix(digits, 16).ok()
}

fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"+/-_=".contains(&byte)
}

/// The characters of base64 that depend on the key alone, where it starts `offset` bytes after a group of three.
fn base64_of(key: &[u8], offset: usize) -> Vec<u8> {
    let bytes = [&[0; 2][..offset], key].concat();
    let bit = |at: usize| bytes[at / 8] >> (7 - at % 8) & 1;
    let character =
        |at: usize| BASE64[(6 * at..6 * at + 6).fold(0, |value, at| value << 1 | usize::from(bit(at)))];
    // the first whole character of the key: 8 or 16 bits of something else come before it
    let start = (8 * offset).div_ceil(6);
    (start..bytes.len() * 8 / 6).map(character).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "CCSB-1/2+3~\"k";

    fn assert_masked(echo: &str) {
        assert_eq!(redact(&format!("wrong: {echo}, ü"), KEY), "wrong: <key>, ü", "{echo}");
    }

    #[test]
    fn key_is_masked_wherever_it_stands() {
        assert_masked(KEY);
        assert_eq!(redact(&format!("{KEY}{KEY} is no ü{KEY}"), KEY), "<key><key> is no ü<key>");
        for text in ["", "nothing here", "CCSB-1", "%", "\\u", "\\u004", "%4"] {
            assert_eq!(redact(text, KEY), text);
        }
    }

    #[test]
    fn key_is_masked_in_json_escapes() {
        assert_masked(r#"CCSB-1\/2+3~\"k"#);
        assert_masked(r#"\u0043CSB\u002d1\/2\u002B3~\"\u006b"#);
        assert_eq!(redact(r"a\\b", r"a\b"), "<key>");
    }

    #[test]
    fn key_is_masked_in_percent_encoding() {
        assert_masked("CCSB-1%2F2%2B3~%22k");
        assert_masked("%43%43%53%42%2d%31%2f%32%2b%33%7e%22%6b");
        assert_eq!(redact("a%25b and a%b", "a%b"), "<key> and <key>");
    }

    #[test]
    fn key_is_masked_in_base64() {
        for (key, plain, for_urls) in [
            ("CCSB-key>>>?", "Q0NTQi1rZXk+Pj4/", "Q0NTQi1rZXk-Pj4_"),
            ("CCSB-key>>>?~", "Q0NTQi1rZXk+Pj4/fg==", "Q0NTQi1rZXk-Pj4_fg"),
            ("CCSB-key>>>?~~", "Q0NTQi1rZXk+Pj4/fn4=", "Q0NTQi1rZXk-Pj4_fn4"),
        ] {
            assert_eq!(redact(&format!("({plain}) ({for_urls})"), key), "(<key>) (<key>)", "{key}");
        }
        assert_eq!(redact("Q0NTQi1rZXk%2BPj4%2F", "CCSB-key>>>?"), "<key>", "percent-encoded once more");
    }

    #[test]
    fn key_is_masked_in_base64_of_more_than_the_key() {
        // "u:CCSB-secret" and "me:CCSB-secret:x", as in basic authentication
        assert_eq!(redact("Basic dTpDQ1NCLXNlY3JldA==", "CCSB-secret"), "Basic dTp<key>");
        assert_eq!(redact("Basic bWU6Q0NTQi1zZWNyZXQ6eA==", "CCSB-secret"), "Basic bWU6<key>");
    }
}
