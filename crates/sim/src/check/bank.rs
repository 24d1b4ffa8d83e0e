//! The bank: every read shows exactly the transfers that it lists, and the acknowledged ones among them.

use crate::client::{ACCOUNTS, BALANCE};
use crate::history::{Ask, Call, Told};
use crate::world::World;
use sqlrep_core::ReadLevel;
use std::collections::BTreeMap;

struct Transfer<'a> {
    from: u64,
    to: u64,
    amount: i64,
    call: &'a Call,
}

/// Checks every read of the bank.
pub(crate) fn check(world: &World, calls: &[Call]) {
    let mut transfers = BTreeMap::new();
    for call in calls {
        if let Ask::Transfer {
            number,
            from,
            to,
            amount,
            way: _,
        } = call.ask
        {
            let transfer = Transfer {
                from,
                to,
                amount,
                call,
            };
            transfers.insert(number, transfer);
        }
    }
    for read in calls {
        if let (Ask::Bank { level }, Some(Told::Bank(balances, numbers))) = (&read.ask, read.told())
        {
            check_read(world, &transfers, read, *level, balances, numbers);
        }
    }
}

fn check_read(
    world: &World,
    transfers: &BTreeMap<u64, Transfer<'_>>,
    read: &Call,
    level: ReadLevel,
    balances: &[i64],
    numbers: &[u64],
) {
    let wrong = |what: &str, number: u64| {
        let call = transfers.get(&number).map(|transfer| transfer.call);
        world.problem(format_args!(
            "transfer {number} {what}, read by {} at {:?}, {level:?}: {call:?}",
            read.client, read.begun
        ));
    };
    let mut expected: Vec<i64> = (0..ACCOUNTS).map(|_| BALANCE).collect();
    for number in numbers {
        match transfers.get(number) {
            None => wrong("was never asked for", *number),
            Some(transfer) if transfer.call.refused() => wrong("was refused and is there", *number),
            Some(transfer) => {
                *account(&mut expected, transfer.from) -= transfer.amount;
                *account(&mut expected, transfer.to) += transfer.amount;
            }
        }
    }
    for pair in numbers.windows(2).filter(|pair| pair[0] == pair[1]) {
        wrong("is there twice", pair[0]);
    }
    for (number, transfer) in transfers {
        let due = level != ReadLevel::None && transfer.call.done() && transfer.call.before(read);
        if due && numbers.binary_search(number).is_err() {
            wrong("was acknowledged and is missing", *number);
        }
    }
    if balances != expected {
        world.problem(format_args!(
            "balances {balances:?} don't follow from the transfers, {expected:?} do: {} at {:?}",
            read.client, read.begun
        ));
    }
}

fn account(balances: &mut [i64], account: u64) -> &mut i64 {
    &mut balances[usize::try_from(account).expect("a small number")]
}
