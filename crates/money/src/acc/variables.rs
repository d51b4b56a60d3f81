//! Variables of acc.

use switchroom_kernel::context::Ctx;
use switchroom_kernel::module::{Named, Variable};
use switchroom_script::Value;
use switchroom_script::vm::{Index, VarAccess};

use super::Acc;
use super::account::Account;
use super::fields::Fields;

const fn named(mut v: Variable) -> Variable {
    v.named = Named::Yes;
    v
}

/// The table.
pub(super) static VARIABLES: &[Variable] = &[
    named(Variable::rw("acc_extra", extra, set_extra, "A value of extra_fields")),
    named(Variable::rw("acc_leg", leg, set_leg, "A value of leg_fields, of the current or a given leg"))
        .indexed(),
    Variable::ro("acc_current_leg", current_leg, "Number of the current leg, from 0"),
];

/// Place of the tag that a variable names.
fn place(ctx: &Ctx, var: &VarAccess, fields: fn(&Acc) -> &Fields) -> Result<usize, String> {
    let kernel = &ctx.shard.kernel;
    let name = kernel.registry.inner_name(var).unwrap_or_default();
    let tags = &fields(kernel.state::<Acc>()).tags;
    let found = tags.iter().position(|t| t.as_bytes() == &name[..]);
    found.ok_or_else(|| {
        let name = String::from_utf8_lossy(&name);
        format!("\"{name}\" is not declared; there are: {}", tags.join(", "))
    })
}

fn extra(ctx: &mut Ctx, var: &VarAccess) -> Value {
    let Ok(at) = place(ctx, var, |acc| &acc.extra) else { return Value::Null };
    let Some(account) = Account::find(ctx) else { return Value::Null };
    let values = account.values.borrow();
    values.extra.get(at).cloned().unwrap_or_default()
}

fn set_extra(ctx: &mut Ctx, var: &VarAccess, value: Value) -> Result<(), String> {
    let at = place(ctx, var, |acc| &acc.extra)?;
    let account = Account::of(ctx);
    if let Some(slot) = account.values.borrow_mut().extra.get_mut(at) {
        *slot = value;
    }
    Ok(())
}

/// Number of the leg that a variable means: the current one, or counted from the first or (below 0) from the last.
fn leg_at(var: &VarAccess, count: usize) -> Option<usize> {
    match var.index {
        Index::At(i) if i >= 0 => Some(i as usize).filter(|i| *i < count),
        Index::At(i) => count.checked_sub(i.unsigned_abs() as usize),
        Index::None | Index::All | Index::Append => count.checked_sub(1),
    }
}

fn leg(ctx: &mut Ctx, var: &VarAccess) -> Value {
    let Ok(at) = place(ctx, var, |acc| &acc.legs) else { return Value::Null };
    let Some(account) = Account::find(ctx) else { return Value::Null };
    let values = account.values.borrow();
    let leg = leg_at(var, values.legs.len()).and_then(|i| values.legs.get(i));
    leg.and_then(|l| l.get(at)).cloned().unwrap_or_default()
}

fn set_leg(ctx: &mut Ctx, var: &VarAccess, value: Value) -> Result<(), String> {
    let at = place(ctx, var, |acc| &acc.legs)?;
    let account = Account::of(ctx);
    let mut values = account.values.borrow_mut();
    let count = values.legs.len();
    let leg = leg_at(var, count).and_then(|i| values.legs.get_mut(i));
    let slot = leg.and_then(|l| l.get_mut(at));
    *slot.ok_or_else(|| format!("there are {count} legs; acc_new_leg() makes another"))? = value;
    Ok(())
}

fn current_leg(ctx: &mut Ctx, _: &VarAccess) -> Value {
    let legs = Account::find(ctx).map_or(1, |a| a.values.borrow().legs.len());
    Value::Int(legs as i64 - 1)
}
