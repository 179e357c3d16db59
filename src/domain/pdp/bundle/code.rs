//! The kinds of fault that a bundle can have.
//!
//! Promises: a kind keeps its name, which `policy check --json` writes; there is one for everything
//! that programs may want to tell apart. Says nothing about how bad a fault is: what keeps a bundle
//! from being loaded and what is only worth a look are kept in different lists. Called by `pdp`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What kind of fault it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The bundle cannot be read, or is none.
    #[default]
    InvalidBundle,
    /// The text is no Rego.
    ParseError,
    /// Rego that is newer than the engine.
    UnsupportedSyntax,
    /// Nesting or chains that could exhaust a stack.
    TooDeep,
    /// There is no `decision`.
    NoEntryPoint,
    /// A package where the data has a table.
    PackageInData,
    /// Rules that need each other in a circle.
    Recursion,
    /// No function has this name.
    UnknownFunction,
    /// A rule is called as if it were a function.
    NotAFunction,
    /// Too many or too few arguments.
    Arity,
    /// A built-in that would make one input give two decisions, or that writes.
    ImpureBuiltin,
    /// A built-in of OPA that the gateway does not run.
    UnsupportedBuiltin,
    /// A call whose answer has no bound.
    UnboundedBuiltin,
    /// A reference to a whole package.
    WholePackage,
    /// No input has this field.
    UnknownInputField,
    /// No row of the data has this field.
    UnknownDataField,
    /// What a rule gives has no such field.
    UnknownField,
    /// There is no such table.
    UnknownTable,
    /// Two types that never go together.
    TypeClash,
    /// A value that is never there.
    ImpossibleValue,
    /// A body that can never hold.
    NeverHolds,
    /// Nothing that decides refers to the rule.
    UnreachableRule,
    /// An `else` that is never tried.
    UnreachableElse,
    /// Rules or data laid out so that evaluation is slow.
    SlowLayout,
    /// A form that only the interpreter runs.
    NeedsInterpreter,
    /// A rule that knows one caller by name.
    NamedCaller,
    /// The engine's own compiler refuses the rules.
    CompileError,
    /// No sample of a call is denied.
    CannotDeny,
    /// A sample that must be denied is not.
    MustDeny,
    /// List and call disagree about a tool.
    ListDisagrees,
    /// A write with high impact that nobody need approve.
    NoApproval,
    /// A sample got no decision.
    NoDecision,
    /// No sample caller sees any tool.
    HidesEverything,
    /// The process that tried the bundle ended, or took too long.
    CheckFailed,
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}
