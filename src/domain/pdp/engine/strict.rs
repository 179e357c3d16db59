//! A compiled program in which nothing fails without a word.
//!
//! Promises: a function or an operator that fails ends the whole evaluation. The virtual machine of
//! regorus 0.14.1 takes an error for undefined at the end of the rule it happens in, even when told
//! to be strict, so that a rule which should have said no says nothing. Only errors of limits get
//! through, and so every function is replaced by one that turns its error into such a limit, and
//! every operator that can fail by a call of such a function. Compares values of different types as
//! the interpreter does. Called by `pdp::engine`.

use std::sync::LazyLock;

use regorus::LimitError;
use regorus::Value;
use regorus::rvm::Instruction;
use regorus::rvm::Program;
use regorus::rvm::instructions::BuiltinCallParams;
use regorus::rvm::program::BuiltinInfo;
use regorus::rvm::vm::VmError;
use regorus::unstable::ArithOp;
use regorus::unstable::BUILTINS;
use regorus::unstable::BuiltinFcn;
use regorus::unstable::numbers;
use regorus::unstable::sets;

/// Functions that can be replaced: a function of the machine carries no state, so that each place in
/// this table needs one of its own.
const SLOTS: usize = 256;

/// Operators, as the functions that stand for them are named.
const OPERATORS: [&str; 9] = ["+", "-", "*", "/", "%", "<", "<=", ">", ">="];

/// Stands where the machine tells how much memory was used. This build counts none, so that no other
/// error carries it.
const FAILED: u64 = u64::MAX;

/// Every function of regorus, in an order that stays.
static NAMES: LazyLock<Vec<&'static str>> = LazyLock::new(|| {
    let mut names: Vec<_> = BUILTINS.keys().copied().collect();
    names.sort_unstable();
    names
});

/// The same program with failures that are heard; nothing when it uses what is not known here.
pub(super) fn program(mut program: Program) -> Option<Program> {
    let replaced: Option<Vec<_>> = program.builtin_info_table.iter().map(|info| wrapped(&info.name)).collect();
    program.resolved_builtins = replaced?;
    for at in 0..program.instructions.len() {
        let old = *program.instructions.get(at)?;
        if unheard(old) {
            return None;
        }
        let Some((operator, dest, left, right)) = operation(old) else { continue };
        let builtin_index = of_operator(&mut program, operator)?;
        let calls = &mut program.instruction_data;
        if calls.builtin_call_params.len() >= usize::from(u16::MAX) {
            return None;
        }
        let args = [left, right, 0, 0, 0, 0, 0, 0];
        let params_index = calls.add_builtin_call_params(BuiltinCallParams { dest, builtin_index, num_args: 2, args });
        *program.instructions.get_mut(at)? = Instruction::BuiltinCall { params_index };
    }
    Some(program)
}

/// What failed, if the machine ended because something did.
pub(super) fn failed(cause: &VmError) -> Option<String> {
    let VmError::MemoryLimitExceeded { usage: FAILED, limit, .. } = cause else { return None };
    let at = usize::try_from(*limit).unwrap_or(usize::MAX);
    let name = NAMES.get(at).or_else(|| OPERATORS.get(at.wrapping_sub(SLOTS)));
    name.map(|name| format!("`{name}` failed on what it was given; look at types before using what callers send"))
}

/// Instructions that could fail and are not replaced; Rego as we compile it has none of them.
fn unheard(instruction: Instruction) -> bool {
    matches!(instruction, Instruction::And { .. } | Instruction::Or { .. } | Instruction::HostAwait { .. })
}

/// The operator of an instruction that may fail, with its registers.
fn operation(instruction: Instruction) -> Option<(usize, u8, u8, u8)> {
    Some(match instruction {
        Instruction::Add { dest, left, right } => (0, dest, left, right),
        Instruction::Sub { dest, left, right } => (1, dest, left, right),
        Instruction::Mul { dest, left, right } => (2, dest, left, right),
        Instruction::Div { dest, left, right } => (3, dest, left, right),
        Instruction::Mod { dest, left, right } => (4, dest, left, right),
        Instruction::Lt { dest, left, right } => (5, dest, left, right),
        Instruction::Le { dest, left, right } => (6, dest, left, right),
        Instruction::Gt { dest, left, right } => (7, dest, left, right),
        Instruction::Ge { dest, left, right } => (8, dest, left, right),
        _ => return None,
    })
}

/// Where the program has the function that stands for an operator; put there by the first use.
fn of_operator(program: &mut Program, operator: usize) -> Option<u16> {
    let name = *OPERATORS.get(operator)?;
    let known = program.builtin_info_table.iter().position(|info| info.name == name);
    let at = known.unwrap_or(program.builtin_info_table.len());
    if known.is_none() {
        program.builtin_info_table.push(BuiltinInfo { name: name.to_owned(), num_args: 2 });
        program.resolved_builtins.push(arithmetic(operator).or_else(|| ordering(operator))?);
    }
    u16::try_from(at).ok()
}

fn arithmetic(operator: usize) -> Option<BuiltinFcn> {
    macro_rules! heard {
        ($at:literal, $op:expr) => {
            (
                |span, params, args, strict| {
                    let [left, right] = args else { return Err(limit(SLOTS + $at).into()) };
                    let [first, second] = params else { return Err(limit(SLOTS + $at).into()) };
                    let (left, right) = (left.clone(), right.clone());
                    let sets = matches!($op, ArithOp::Sub) && left.as_set().is_ok() && right.as_set().is_ok();
                    let result = if sets {
                        sets::difference(first, second, left, right)
                    } else {
                        numbers::arithmetic_operation(span, &$op, first, second, left, right, strict)
                    };
                    result.map_err(|_cause| limit(SLOTS + $at).into())
                },
                2,
            )
        };
    }
    let heard: [BuiltinFcn; 5] = [
        heard!(0, ArithOp::Add),
        heard!(1, ArithOp::Sub),
        heard!(2, ArithOp::Mul),
        heard!(3, ArithOp::Div),
        heard!(4, ArithOp::Mod),
    ];
    heard.get(operator).copied()
}

/// Values of different types have an order too, as in OPA, so that these never fail.
fn ordering(operator: usize) -> Option<BuiltinFcn> {
    let never: [BuiltinFcn; 4] = [
        (|_, _, args, _| Ok(Value::from(args.first() < args.get(1))), 2),
        (|_, _, args, _| Ok(Value::from(args.first() <= args.get(1))), 2),
        (|_, _, args, _| Ok(Value::from(args.first() > args.get(1))), 2),
        (|_, _, args, _| Ok(Value::from(args.first() >= args.get(1))), 2),
    ];
    never.get(operator.checked_sub(5)?).copied()
}

fn limit(at: usize) -> LimitError {
    LimitError::MemoryLimitExceeded { usage: FAILED, limit: u64::try_from(at).unwrap_or(u64::MAX) }
}

/// A function that calls the one of that name and makes its error heard.
fn wrapped(name: &str) -> Option<BuiltinFcn> {
    let at = NAMES.binary_search(&name).ok()?;
    let (_, takes) = BUILTINS.get(name)?;
    let (call, _) = *row(at / 16)?.get(at % 16)?;
    Some((call, *takes))
}

fn slot<const AT: usize>() -> BuiltinFcn {
    (
        |span, params, args, strict| {
            let Some((call, _)) = NAMES.get(AT).and_then(|name| BUILTINS.get(name)) else {
                return Err(limit(AT).into());
            };
            call(span, params, args, strict).map_err(|_cause| limit(AT).into())
        },
        0,
    )
}

/// Sixteen of the [`SLOTS`].
fn row(at: usize) -> Option<[BuiltinFcn; 16]> {
    macro_rules! sixteen {
        ($($row:literal)*) => {
            match at {
                $($row => Some([
                    slot::<{ $row * 16 }>(), slot::<{ $row * 16 + 1 }>(), slot::<{ $row * 16 + 2 }>(),
                    slot::<{ $row * 16 + 3 }>(), slot::<{ $row * 16 + 4 }>(), slot::<{ $row * 16 + 5 }>(),
                    slot::<{ $row * 16 + 6 }>(), slot::<{ $row * 16 + 7 }>(), slot::<{ $row * 16 + 8 }>(),
                    slot::<{ $row * 16 + 9 }>(), slot::<{ $row * 16 + 10 }>(), slot::<{ $row * 16 + 11 }>(),
                    slot::<{ $row * 16 + 12 }>(), slot::<{ $row * 16 + 13 }>(), slot::<{ $row * 16 + 14 }>(),
                    slot::<{ $row * 16 + 15 }>(),
                ]),)*
                _ => None,
            }
        };
    }
    sixteen!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_function_has_its_own_place() {
        assert!(NAMES.len() <= SLOTS, "more functions than places: {}", NAMES.len());
        for name in NAMES.iter() {
            assert!(wrapped(name).is_some(), "{name}");
        }
    }
}
