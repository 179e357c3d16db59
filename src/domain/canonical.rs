//! Strict JSON, its one canonical form, and digests of it.
//!
//! Promises: what [`parse`] accepts means the same to every reader: no key twice, no number that a
//! double cannot carry exactly, no lone surrogate, nothing after the value, bounded depth and size;
//! every fault names its place. [`canonical`] is RFC 8785, so equal values have equal bytes.
//! Never repairs input and never guesses. Called by every room that reads or hashes JSON.

use std::cell::RefCell;
use std::fmt;

use aws_lc_rs::digest::{SHA256, digest as sha};
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// The largest integer that every JSON reader carries exactly: 2^53 - 1 (RFC 7493 section 2.2).
pub const SAFE_INTEGER_MAX: u64 = 9_007_199_254_740_991;

/// How much a document may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the whole text.
    pub bytes_max: usize,
    /// Objects and arrays inside each other; a plain value has depth 0.
    pub depth_max: usize,
    /// Object members and array elements, all levels together.
    pub members_max: usize,
}

impl Default for Limits {
    /// 1 MiB, 64 levels, 10 000 members: well above any LoopIQ call, well below what hurts.
    fn default() -> Self {
        Self { bytes_max: 1 << 20, depth_max: 64, members_max: 10_000 }
    }
}

/// What is wrong with a document, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} at `{pointer}`")]
pub struct JsonFault {
    /// What was found.
    pub what: Flaw,
    /// RFC 6901 pointer to the innermost value that was being read; empty for the document itself.
    pub pointer: String,
}

/// What can be wrong with a document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// Not JSON: grammar, encoding, lone surrogate, number out of range, trailing data.
    #[error("not valid JSON: {0}")]
    Syntax(String),
    /// One name twice in one object, after escapes are resolved.
    #[error("the key `{0}` stands twice")]
    DuplicateKey(String),
    /// An integral number beyond ±(2^53 - 1), however it is written.
    #[error("a number beyond 9007199254740991, which JSON readers do not carry exactly; send it as a string")]
    UnsafeNumber,
    /// More levels than allowed.
    #[error("nested deeper than {0} levels")]
    TooDeep(usize),
    /// More members than allowed.
    #[error("more than {0} members")]
    TooManyMembers(usize),
    /// More bytes than allowed.
    #[error("longer than {0} bytes")]
    TooLong(usize),
}

/// A value that has no canonical form, such as an integer beyond ±(2^53 - 1).
#[derive(Debug, thiserror::Error)]
#[error("this value has no canonical JSON form: {0}")]
pub struct NotCanonical(#[from] serde_json::Error);

/// Reads one strict JSON document.
pub fn parse(bytes: &[u8], limits: &Limits) -> Result<Value, JsonFault> {
    if bytes.len() > limits.bytes_max {
        return Err(JsonFault { what: Flaw::TooLong(limits.bytes_max), pointer: String::new() });
    }
    let reading = Reading { limits, at: RefCell::default() };
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let read = Seed { reading: &reading, depth: 0 }.deserialize(&mut json);
    match read.and_then(|value| json.end().map(|()| value)) {
        Ok(value) => Ok(value),
        Err(error) => {
            let mut at = reading.at.into_inner();
            let what = at.flaw.take().unwrap_or_else(|| Flaw::Syntax(error.to_string()));
            Err(JsonFault { what, pointer: at.pointer() })
        }
    }
}

/// The RFC 8785 form of a value.
pub fn canonical(value: &Value) -> Result<Vec<u8>, NotCanonical> {
    Ok(json_canon::to_vec(value)?)
}

/// SHA-256 as 64 lower-case hex digits.
#[must_use]
pub fn digest(bytes: &[u8]) -> String {
    use fmt::Write as _;

    let mut hex = String::with_capacity(64);
    for byte in sha(&SHA256, bytes).as_ref() {
        // INVARIANT: writing to a `String` cannot fail, so nothing is lost by ignoring the result.
        let _infallible = write!(hex, "{byte:02x}");
    }
    hex
}

/// [`digest`] of the canonical form: equal values have equal digests, however they were written.
pub fn digest_value(value: &Value) -> Result<String, NotCanonical> {
    Ok(digest(&canonical(value)?))
}

/// The state of one reading, shared by all levels.
struct Reading<'a> {
    limits: &'a Limits,
    at: RefCell<At>,
}

/// Where the reader stands and what it found. On a fault the path is left as it was.
#[derive(Default)]
struct At {
    path: Vec<Step>,
    members: usize,
    flaw: Option<Flaw>,
}

/// One step of the path.
enum Step {
    Key(String),
    Index(usize),
}

impl At {
    fn pointer(&self) -> String {
        use fmt::Write as _;

        let mut pointer = String::new();
        for step in &self.path {
            let _infallible = match step {
                Step::Key(key) => write!(pointer, "/{}", key.replace('~', "~0").replace('/', "~1")),
                Step::Index(index) => write!(pointer, "/{index}"),
            };
        }
        pointer
    }
}

impl Reading<'_> {
    fn fail<E: serde::de::Error>(&self, flaw: Flaw) -> E {
        let error = E::custom(&flaw);
        self.at.borrow_mut().flaw = Some(flaw);
        error
    }

    /// Steps into a member, counting it.
    fn enter<E: serde::de::Error>(&self, step: Step) -> Result<(), E> {
        self.at.borrow_mut().path.push(step);
        self.count()
    }

    fn count<E: serde::de::Error>(&self) -> Result<(), E> {
        let mut at = self.at.borrow_mut();
        at.members += 1;
        let too_many = at.members > self.limits.members_max;
        drop(at);
        if too_many { Err(self.fail(Flaw::TooManyMembers(self.limits.members_max))) } else { Ok(()) }
    }

    fn leave(&self) {
        self.at.borrow_mut().path.pop();
    }
}

/// Reads one value at one depth.
#[derive(Clone, Copy)]
struct Seed<'a> {
    reading: &'a Reading<'a>,
    depth: usize,
}

impl Seed<'_> {
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth >= self.reading.limits.depth_max {
            return Err(self.reading.fail(Flaw::TooDeep(self.reading.limits.depth_max)));
        }
        Ok(Self { depth: self.depth + 1, ..self })
    }

    fn unsafe_number<T, E: serde::de::Error>(self) -> Result<T, E> {
        Err(self.reading.fail(Flaw::UnsafeNumber))
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Value, E> {
        if value > SAFE_INTEGER_MAX { self.unsafe_number() } else { Ok(value.into()) }
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Value, E> {
        if value.unsigned_abs() > SAFE_INTEGER_MAX { self.unsafe_number() } else { Ok(value.into()) }
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        // WHY: RFC 8785 writes 1e16 as 10000000000000000, which the next reader takes for an integer
        // that it cannot carry, and an integer beyond u64 arrives here already rounded. Above 2^53
        // every double is integral, so magnitude alone tells.
        if value.abs() >= 9_007_199_254_740_992.0 {
            return self.unsafe_number();
        }
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut array = Vec::new();
        loop {
            self.reading.at.borrow_mut().path.push(Step::Index(array.len()));
            let Some(element) = elements.next_element_seed(Counted(inner))? else {
                self.reading.leave();
                return Ok(Value::Array(array));
            };
            array.push(element);
            self.reading.leave();
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut object = Map::new();
        while let Some(key) = members.next_key::<String>()? {
            self.reading.enter::<A::Error>(Step::Key(key.clone()))?;
            if object.contains_key(&key) {
                return Err(self.reading.fail(Flaw::DuplicateKey(key)));
            }
            object.insert(key, members.next_value_seed(inner)?);
            self.reading.leave();
        }
        Ok(Value::Object(object))
    }
}

/// An array element: counted when it exists, which an array's reader learns only by reading it.
struct Counted<'a>(Seed<'a>);

impl<'de> DeserializeSeed<'de> for Counted<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.0.reading.count::<D::Error>()?;
        self.0.deserialize(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(text: &str) -> Result<Value, JsonFault> {
        parse(text.as_bytes(), &Limits::default())
    }

    fn refused(text: &str, flaw: &Flaw, pointer: &str) {
        let fault = read(text).expect_err(text);
        assert_eq!((&fault.what, fault.pointer.as_str()), (flaw, pointer), "{text}");
    }

    fn not_json(text: &[u8], pointer: &str) {
        let fault = parse(text, &Limits::default()).expect_err("must be refused");
        assert!(matches!(fault.what, Flaw::Syntax(_)), "{fault}");
        assert_eq!(fault.pointer, pointer, "{fault}");
    }

    #[test]
    fn a_key_that_stands_twice_is_refused_where_it_stands() {
        refused(r#"{"a":1,"a":1}"#, &Flaw::DuplicateKey("a".into()), "/a");
        refused(r#"{"x":[0,{"tenant":"a","\u0074enant":"b"}]}"#, &Flaw::DuplicateKey("tenant".into()), "/x/1/tenant");
        refused(r#"{"a/b":{"~":0,"~":0}}"#, &Flaw::DuplicateKey("~".into()), "/a~1b/~0");
    }

    #[test]
    fn an_integer_that_a_reader_would_round_is_refused() {
        // 9007199254740993 becomes ...992 in every reader that uses doubles: approve one record, write another.
        refused(r#"{"id":9007199254740993}"#, &Flaw::UnsafeNumber, "/id");
        refused("9007199254740992", &Flaw::UnsafeNumber, "");
        refused("[0,-9007199254740992]", &Flaw::UnsafeNumber, "/1");
        refused("[9007199254740992.0]", &Flaw::UnsafeNumber, "/0");
        refused("18446744073709551616", &Flaw::UnsafeNumber, "");
        refused("-9223372036854775809", &Flaw::UnsafeNumber, "");
        refused("1e16", &Flaw::UnsafeNumber, "");
        assert_eq!(read("9007199254740991"), Ok(json!(9_007_199_254_740_991_u64)));
        assert_eq!(read("-9007199254740991"), Ok(json!(-9_007_199_254_740_991_i64)));
        assert_eq!(read("0.1e1"), Ok(json!(1.0)));
    }

    #[test]
    fn what_is_not_json_is_refused() {
        for text in [
            "",
            " ",
            "\u{feff}{}",
            "{} {}",
            "{}x",
            "[1,]",
            "{\"a\":1,}",
            "{a:1}",
            "'a'",
            "01",
            "1.",
            ".1",
            "+1",
            "-",
            "NaN",
            "Infinity",
            "1e999",
            "-1e999",
            "nul",
            "\"\\x\"",
            "\"\t\"",
            "\"",
            "/**/1",
            "\"\\ud800\"",
            "\"\\udc00\"",
            "\"\\ud800\\u0041\"",
        ] {
            let fault = read(text).expect_err(text);
            assert!(matches!(fault.what, Flaw::Syntax(_)), "{text}: {fault}");
        }
        not_json(b"{\"a\":[\"\\ud83d\"]}", "/a/0");
        not_json(b"{\"a\":\"\xff\"}", "/a");
        not_json(b"\"\xc0\xaf\"", "");
        not_json(b"\"\xed\xa0\x80\"", "");
        not_json(b"{\"a\":{\"b\":1e999}}", "/a/b");
    }

    #[test]
    fn depth_members_and_length_are_bounded() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(read(&nested(64)).is_ok());
        assert_eq!(read(&nested(65)).expect_err("too deep").what, Flaw::TooDeep(64));
        assert_eq!(read(&"[".repeat(100_000)).expect_err("too deep").what, Flaw::TooDeep(64));
        let objects = format!("{}1{}", "{\"a\":".repeat(65), "}".repeat(65));
        assert_eq!(read(&objects).expect_err("too deep").what, Flaw::TooDeep(64));
        let wide = |count: usize| format!("[{}]", vec!["0"; count].join(","));
        assert!(read(&wide(10_000)).is_ok());
        assert_eq!(read(&wide(10_001)).expect_err("too wide").what, Flaw::TooManyMembers(10_000));
        let limits = Limits { bytes_max: 3, ..Limits::default() };
        assert!(parse(b"[1]", &limits).is_ok());
        assert_eq!(parse(b"[1] ", &limits).expect_err("too long").what, Flaw::TooLong(3));
    }

    #[test]
    fn equal_values_have_equal_bytes_and_digests() {
        let one = read(r#"{"b":[1.0,2e0,"\u00e9"],"a":{"y":null,"x":-0}}"#).unwrap();
        let other = read("{ \"a\" : {\"x\":0.0,\"y\":null}, \"b\":[1,2,\"é\"]}").unwrap();
        assert_eq!(canonical(&one).unwrap(), canonical(&other).unwrap());
        assert_eq!(digest_value(&one).unwrap(), digest_value(&other).unwrap());
        assert_eq!(digest(b""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }

    #[test]
    fn the_canonical_form_is_that_of_rfc_8785() {
        // RFC 8785 section 3.2.2, numbers within the range that `parse` lets in.
        let sample = r#"{
          "numbers": [333333333.33333329, 4.50, 2e-3, 0.000000000000000000000000001],
          "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/",
          "literals": [null, true, false]
        }"#;
        let expected = "{\"literals\":[null,true,false],\"numbers\":[333333333.3333333,4.5,0.002,1e-27],\"string\":\"€$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\"}";
        assert_eq!(String::from_utf8(canonical(&read(sample).unwrap()).unwrap()).unwrap(), expected);
        // Section 3.2.3: names sort by UTF-16 code units, so the smiley (d83d de00) comes before fb33.
        let names = r#"{"\u20ac":"Euro Sign","\r":"Carriage Return","\ufb33":"Hebrew Letter Dalet With Dagesh",
          "1":"One","\ud83d\ude00":"Emoji: Grinning Face","\u0080":"Control","\u00f6":"Latin Small Letter O With Diaeresis"}"#;
        let text = String::from_utf8(canonical(&read(names).unwrap()).unwrap()).unwrap();
        let order: Vec<usize> = ["Carriage", "One", "Control", "Latin", "Euro", "Emoji", "Hebrew"]
            .iter()
            .map(|word| text.find(word).unwrap())
            .collect();
        assert!(order.is_sorted(), "{text}");
        assert!(text.starts_with("{\"\\r\":\"Carriage Return\",\"1\":"), "{text}");
    }

    #[test]
    fn numbers_are_written_as_ecmascript_writes_them() {
        // RFC 8785 appendix B, by their IEEE 754 bits.
        for (bits, text) in [
            (0x0000_0000_0000_0000_u64, "0"),
            (0x8000_0000_0000_0000, "0"),
            (0x0000_0000_0000_0001, "5e-324"),
            (0x8000_0000_0000_0001, "-5e-324"),
            (0x7fef_ffff_ffff_ffff, "1.7976931348623157e+308"),
            (0xffef_ffff_ffff_ffff, "-1.7976931348623157e+308"),
            (0x44b5_2d02_c7e1_4af5, "9.999999999999997e+22"),
            (0x44b5_2d02_c7e1_4af6, "1e+23"),
            (0x444b_1ae4_d6e2_ef4e, "999999999999999700000"),
            (0x444b_1ae4_d6e2_ef50, "1e+21"),
            (0x3eb0_c6f7_a0b5_ed8c, "9.999999999999997e-7"),
            (0x3eb0_c6f7_a0b5_ed8d, "0.000001"),
            (0x41b3_de43_5555_5553, "333333333.3333332"),
            (0x41b3_de43_5555_5557, "333333333.33333343"),
            (0xbecb_f647_612f_3696, "-0.0000033333333333333333"),
            (0x4314_3ff3_c1cb_0959, "1424953923781206.2"),
        ] {
            assert_eq!(canonical(&json!(f64::from_bits(bits))).unwrap(), text.as_bytes(), "{bits:x}");
        }
        assert!(canonical(&json!(9_007_199_254_740_993_u64)).is_err(), "an integer that a reader would round");
    }

    #[test]
    fn the_canonical_form_reads_back_as_the_same_value() {
        let value =
            read(r#"{"":[[],{},"\u0000\u007f\ud83d\ude00"],"n":[0.1,1e-7,-3,123456789012345],"\"":"\\"}"#).unwrap();
        let bytes = canonical(&value).unwrap();
        assert_eq!(parse(&bytes, &Limits::default()).unwrap(), value);
    }
}
