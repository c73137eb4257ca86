//! Calls: functions, which there must be, and macros, which may declare variables.

use super::super::function::{self, Macro};
use super::super::{Trouble, Type, lex};
use super::{Argument, Call, Form, Parser, Result, Step, Value, What};
use crate::validate::regex;

/// What a comprehension calls its own.
const ACCUMULATOR: &str = "__result__";

impl<'a> Parser<'a, '_> {
    /// A call, of which the name has been read.
    pub(super) fn call(&mut self, target: Option<Value<'a>>, name: &'a str) -> Result<Step<'a>> {
        let at = self.token.at;
        let namespace = self.namespace(target.as_ref(), name);
        self.advance()?;
        let call = Call { at, target, namespace, name, arguments: Vec::new(), start: self.token.at };
        if self.take(")")? {
            return Ok(Step::Member(self.called(&call)?, None));
        }
        self.open(What::Call(call))
    }

    /// The first part of the name of a function, where that has two; it is no variable.
    fn namespace(&mut self, target: Option<&Value<'a>>, name: &str) -> Option<&'a str> {
        let Some(Form::Name(before)) = target.map(|target| &target.form) else { return None };
        let known = (*before, name) == ("cel", "bind")
            || function::qualified(before, name, self.scope.patches).is_some();
        if known {
            self.uses.get_mut(before).and_then(Vec::pop);
        }
        known.then_some(*before)
    }

    /// What a call comes to.
    pub(super) fn called(&mut self, call: &Call<'a>) -> Result<Value<'a>> {
        let Call { at, target, namespace, name, arguments, .. } = call;
        let of_two = namespace.and_then(|before| function::qualified(before, name, self.scope.patches));
        let type_ = match (of_two, arguments.as_slice()) {
            (Some(result), _) => result,
            (None, [variable, _, (start, meant)]) if namespace.is_some() => {
                self.declare(std::slice::from_ref(variable), *start)?;
                meant.type_
            }
            (None, [(_, field)]) if target.is_none() && *name == "has" => {
                if !matches!(field.form, Form::Select) {
                    return Err(Trouble::at(field.at, "invalid argument to has() macro".to_owned()));
                }
                Type::Bool
            }
            _ => match function::receiver_macro(name, arguments.len()).filter(|_| target.is_some()) {
                Some(known) => self.expand(known, arguments)?,
                None => self.function(*at, name, arguments),
            },
        };
        let mut below: Vec<&Value<'a>> = arguments.iter().map(|(_, argument)| argument).collect();
        below.extend(target);
        if target.is_none() {
            // Of calls on nothing cel-go does not count how deep they are.
            let depth = below.iter().map(|value| value.depth).max().unwrap_or(0);
            return Ok(Value { at: *at, type_, depth, form: Form::Other });
        }
        self.node(*at, &below, type_)
    }

    /// What a function gives, which there must be.
    fn function(&mut self, at: usize, name: &'a str, arguments: &[Argument<'a>]) -> Type<'a> {
        // `.has` is no macro.
        if name == "." {
            return Type::Dyn;
        }
        let Some(result) = function::result(name) else {
            self.trouble(at, format!("undeclared reference to '{name}' (in container '')"));
            return Type::Dyn;
        };
        let pattern = match name {
            "matches" => arguments.last(),
            "find" | "findAll" => arguments.first(),
            _ => None,
        };
        if let Some((_, Value { at, form: Form::Text(written), .. })) = pattern
            && let Ok(pattern) = lex::meaning(written, false)
            && let Err(why) = regex::check(&pattern)
        {
            let why = if name == "matches" { "invalid matches argument".to_owned() } else { why };
            let program = name != "matches";
            self.troubles.push(Trouble { at: Some(*at), why, program });
        }
        result
    }

    fn expand(&mut self, known: &Macro, arguments: &[Argument<'a>]) -> Result<Type<'a>> {
        let (variables, others) = arguments.split_at(known.variables);
        self.declare(variables, others.first().map_or(0, |(start, _)| *start))?;
        let last = arguments
            .last()
            .map(|(_, last)| last)
            .filter(|_| known.result == Type::Bool || known.name == "filter");
        if let Some(last) = last.filter(|last| !last.type_.may_be(Type::Bool)) {
            self.trouble(last.at, format!("expected type 'bool' but found '{}'", last.type_));
        }
        Ok(known.result)
    }

    /// Takes names for variables of a macro, whose meaning they have from `start` on.
    fn declare(&mut self, variables: &[Argument<'a>], start: usize) -> Result<()> {
        let mut names: Vec<&str> = Vec::new();
        for (_, variable) in variables {
            let Form::Name(name) = variable.form else {
                return Err(Trouble::at(variable.at, "argument must be a simple name".to_owned()));
            };
            if name == ACCUMULATOR {
                let why = "iteration variable overwrites accumulator variable";
                return Err(Trouble::at(variable.at, why.to_owned()));
            }
            if names.contains(&name) {
                return Err(Trouble::at(variable.at, format!("duplicate variable name: {name}")));
            }
            names.push(name);
            let Some(uses) = self.uses.get_mut(name) else { continue };
            while uses.last().is_some_and(|used| used.at >= start) {
                uses.pop();
            }
            if let Some(own) = uses.iter().rposition(|used| used.at == variable.at) {
                uses.remove(own);
            }
        }
        for name in names {
            if self.uses.get(name).is_some_and(Vec::is_empty) {
                self.uses.remove(name);
            }
        }
        Ok(())
    }
}
