//! Sets of Rego's types.
//!
//! Promises: two sets that share nothing can never hold the same value. Only arithmetic.
//! Called by `pdp::lint::types` and `pdp::lint::builtins`.

/// Which types a value may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::domain::pdp) struct Kinds(u8);

/// Every type, with the words for one value of it and the letter that signatures have for it.
const ALL: [(Kinds, &str, char); 7] = [
    (Kinds::NULL, "null", 'z'),
    (Kinds::BOOL, "a boolean", 'b'),
    (Kinds::NUMBER, "a number", 'n'),
    (Kinds::STRING, "a string", 's'),
    (Kinds::ARRAY, "an array", 'a'),
    (Kinds::OBJECT, "an object", 'o'),
    (Kinds::SET, "a set", 'e'),
];

impl Kinds {
    pub(in crate::domain::pdp) const NONE: Self = Self(0);
    pub(in crate::domain::pdp) const NULL: Self = Self(1);
    pub(in crate::domain::pdp) const BOOL: Self = Self(2);
    pub(in crate::domain::pdp) const NUMBER: Self = Self(4);
    pub(in crate::domain::pdp) const STRING: Self = Self(8);
    pub(in crate::domain::pdp) const ARRAY: Self = Self(16);
    pub(in crate::domain::pdp) const OBJECT: Self = Self(32);
    pub(in crate::domain::pdp) const SET: Self = Self(64);
    pub(in crate::domain::pdp) const ANY: Self = Self(127);
    /// What has members that one can go over.
    pub(in crate::domain::pdp) const COLLECTION: Self = Self(16 + 32 + 64);

    /// The type that a letter of a signature stands for; anything if there is none.
    pub(in crate::domain::pdp) fn letter(letter: char) -> Self {
        ALL.iter().find(|(_, _, other)| *other == letter).map_or(Self::ANY, |(kind, ..)| *kind)
    }

    /// The type as JSON Schema names it; nothing for a name that is none.
    pub(in crate::domain::pdp) fn of_schema(name: &str) -> Option<Self> {
        Some(match name {
            "null" => Self::NULL,
            "boolean" => Self::BOOL,
            "number" | "integer" => Self::NUMBER,
            "string" => Self::STRING,
            "array" => Self::ARRAY,
            "object" => Self::OBJECT,
            _ => return None,
        })
    }

    pub(in crate::domain::pdp) fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(in crate::domain::pdp) fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub(in crate::domain::pdp) fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// `a string`, `an array or a set`.
    pub(in crate::domain::pdp) fn words(self) -> String {
        let names: Vec<&str> = ALL.iter().filter(|(kind, ..)| self.meets(*kind)).map(|(_, words, _)| *words).collect();
        match names.as_slice() {
            [] => "nothing".to_owned(),
            [one] => (*one).to_owned(),
            [most @ .., last] => format!("{} or {last}", most.join(", ")),
        }
    }

    /// The types in it, one by one.
    pub(in crate::domain::pdp) fn each(self) -> impl Iterator<Item = Self> {
        ALL.iter().map(|(kind, ..)| *kind).filter(move |kind| self.meets(*kind))
    }
}
