//! A second, strict reader of chunked bodies, beside pingora's forgiving one.
//!
//! Promises: what it calls whole is framed in the one way that every reader agrees on: plain hex
//! sizes, `CR LF`, no extension, no trailer. Reads bytes as they come and keeps none of them. Fed by
//! `adapters::door::pace` with the bytes of the wire. Follows RFC 9112 section 7.1, without its options.

/// Hex digits of a size; more than any body needs that is let in.
const DIGITS_MAX: u8 = 8;

/// How far the body has been read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Chunks {
    /// Before the first digit of a size.
    #[default]
    Begin,
    Size {
        digits: u8,
        size: u64,
    },
    SizeLf(u64),
    Data(u64),
    DataCr,
    DataLf,
    Last,
    LastLf,
    End,
    /// The last byte of the body was read.
    Whole,
    /// Two readers could read this in two ways.
    Bad,
}

impl Chunks {
    /// Reads on; what comes after the body is not looked at.
    pub(super) fn read(&mut self, mut bytes: &[u8]) {
        while let Some((&byte, rest)) = bytes.split_first() {
            if let Self::Data(left) = *self {
                let here = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                let left = left - here as u64;
                *self = if left == 0 { Self::DataCr } else { Self::Data(left) };
                bytes = bytes.get(here..).unwrap_or_default();
                continue;
            }
            if matches!(self, Self::Whole | Self::Bad) {
                return;
            }
            *self = self.step(byte);
            bytes = rest;
        }
    }

    fn step(self, byte: u8) -> Self {
        let digit = char::from(byte).to_digit(16).map(u64::from);
        match (self, byte) {
            (Self::Begin, _) => digit.map_or(Self::Bad, |size| Self::Size { digits: 1, size }),
            // WHY: `00` ends a body as `0` does, and is written by nobody but those who try readers out.
            (Self::Size { digits: 1, size: 0 }, b'\r') => Self::Last,
            (Self::Size { size: 0, .. }, _) => Self::Bad,
            (Self::Size { size, .. }, b'\r') => Self::SizeLf(size),
            (Self::Size { digits, size }, _) if digits < DIGITS_MAX => {
                digit.map_or(Self::Bad, |digit| Self::Size { digits: digits + 1, size: size * 16 + digit })
            }
            (Self::SizeLf(size), b'\n') => Self::Data(size),
            (Self::DataCr, b'\r') => Self::DataLf,
            (Self::DataLf, b'\n') => Self::Begin,
            // `0 CR` has been read.
            (Self::Last, b'\n') => Self::LastLf,
            (Self::LastLf, b'\r') => Self::End,
            (Self::End, b'\n') => Self::Whole,
            _ => Self::Bad,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Chunks {
        let mut whole = Chunks::default();
        whole.read(text.as_bytes());
        let mut drop_by_drop = Chunks::default();
        text.bytes().for_each(|byte| drop_by_drop.read(&[byte]));
        assert_eq!(whole, drop_by_drop, "{text:?}");
        whole
    }

    #[test]
    fn a_plain_chunked_body_is_whole() {
        for text in
            ["0\r\n\r\n", "2\r\nok\r\n0\r\n\r\n", "A\r\n0123456789\r\n1\r\n\r\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n"]
        {
            assert_eq!(read(text), Chunks::Whole, "{text:?}");
        }
        for text in ["", "2", "2\r\nok\r\n", "2\r\nok\r\n0\r\n", "ffffffff\r\n..."] {
            assert!(!matches!(read(text), Chunks::Whole | Chunks::Bad), "{text:?}");
        }
    }

    #[test]
    fn what_readers_disagree_about_is_bad() {
        for text in [
            "2;a=b\r\nok\r\n0\r\n\r\n",
            "2 \r\nok\r\n0\r\n\r\n",
            " 2\r\nok\r\n0\r\n\r\n",
            "2\nok\r\n0\r\n\r\n",
            "2\rok\r\n0\r\n\r\n",
            "2\r\nokk\r\n0\r\n\r\n",
            "2\r\nok0\r\n\r\n",
            "2\r\nok\n0\r\n\r\n",
            "0x2\r\nok\r\n0\r\n\r\n",
            "+2\r\nok\r\n0\r\n\r\n",
            "-2\r\nok\r\n0\r\n\r\n",
            "02\r\nok\r\n0\r\n\r\n",
            "00\r\n\r\n",
            "fffffffff\r\nok\r\n0\r\n\r\n",
            "\r\n0\r\n\r\n",
            "0\r\nX: y\r\n\r\n",
            "0\r\n\n",
            "0\n\n",
            "0;\n\r\n\r\n",
            "2\r\nok\r\n0;x\r\n\r\n",
            "g\r\n",
        ] {
            assert_eq!(read(text), Chunks::Bad, "{text:?}");
        }
    }
}
