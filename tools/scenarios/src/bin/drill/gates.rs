//! What `rotation-status` is expected to say at a gate.

use anyhow::{Result, ensure};

use crate::Drill;
use crate::authority::label;
use crate::status::{Answer, Status};
use crate::story::wait_until;

const QUESTION: [&str; 6] = [
    "",
    "may the new CA sign",
    "is what signs trusted by all",
    "have all own leaves moved",
    "is the old CA off the wire",
    "may the old CA go",
];

impl Drill<'_> {
    /// Waits until a gate is open.
    ///
    /// # Errors
    /// If it stays closed; or if the exit code says otherwise.
    pub fn gate_opens(&mut self, status: &Status, gate: u8) -> Result<()> {
        self.gate(status, gate, &[])
    }

    /// Waits until a gate is closed because of exactly these proxies.
    ///
    /// # Errors
    /// If it is not; or if the exit code says otherwise.
    pub fn gate_is_closed(&mut self, status: &Status, gate: u8, because: &[&str]) -> Result<()> {
        self.gate(status, gate, because)
    }

    fn gate(&mut self, status: &Status, gate: u8, because: &[&str]) -> Result<()> {
        let question = QUESTION[usize::from(gate)];
        let what = match because {
            [] => format!("gate {gate} ({question}) is open"),
            names => format!("gate {gate} ({question}) is closed by {}", names.join(", ")),
        };
        let (_, seconds) = wait_until(&what, || check(&status.ask(gate)?, gate, because))?;
        let text = status.text(gate)?;
        ensure!(
            text.is_open == because.is_empty(),
            "{what}: the exit code says otherwise:\n{}",
            text.text
        );
        self.story.quote(text.gate(gate)?)?;
        self.story.holds(&format!("{what} (after {seconds:.1} s)"))
    }

    /// Waits until the CAs are in these states, and shows them.
    ///
    /// # Errors
    /// If they are not.
    pub fn states(&mut self, status: &Status, expected: &[(&str, &str)]) -> Result<()> {
        let each = expected
            .iter()
            .map(|(ca, state)| format!("{ca} is {state}"));
        let what = each.collect::<Vec<_>>().join(", ");
        wait_until(&what, || {
            let answer = status.ask(5)?;
            for (ca, state) in expected {
                let found = answer.state(&label(ca));
                ensure!(found == *state, "{ca} is {found}");
            }
            Ok(())
        })?;
        self.story.quote(status.text(5)?.cas()?)?;
        self.story.holds(&what)
    }
}

/// Whether a gate is closed by exactly these proxies; by none: open.
fn check(answer: &Answer, gate: u8, because: &[&str]) -> Result<()> {
    let expected = if because.is_empty() { "open" } else { "closed" };
    let (verdict, blockers) = (answer.verdict(gate), answer.blockers(gate));
    ensure!(
        verdict == expected
            && answer.is_certain(gate)
            && blockers == because.iter().copied().collect(),
        "it is {verdict}, because of {blockers:?}"
    );
    ensure!(
        answer.is_open == because.is_empty(),
        "the exit code says otherwise"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answer(is_open: bool, verdict: &str, because: &[(&str, &str)]) -> Answer {
        let because = because
            .iter()
            .map(|(proxy, verdict)| json!({"proxy": proxy, "verdict": verdict}));
        let because: Vec<_> = because.collect();
        let gate = json!({"number": 1, "verdict": verdict, "because": because});
        Answer::of(is_open, json!({"gates": [gate]}))
    }

    #[test]
    fn a_gate_is_closed_by_exactly_those_expected() {
        let closed = answer(false, "closed", &[("cart", "closed"), ("pay", "closed")]);
        assert!(check(&closed, 1, &["pay", "cart"]).is_ok());
        for others in [&[][..], &["cart"], &["cart", "pay", "web"]] {
            assert!(check(&closed, 1, others).is_err(), "{others:?}");
        }
        let open = answer(true, "open", &[]);
        assert!(check(&open, 1, &[]).is_ok());
        assert!(check(&open, 1, &["cart"]).is_err());
        assert!(check(&open, 2, &[]).is_err());
    }

    #[test]
    fn unknown_is_neither_open_nor_closed() {
        let unknown = answer(false, "unknown", &[("cart", "unknown")]);
        let mixed = answer(false, "closed", &[("cart", "unknown"), ("pay", "closed")]);
        for (answer, because) in [
            (&unknown, &["cart"][..]),
            (&unknown, &[]),
            (&mixed, &["cart", "pay"]),
        ] {
            assert!(check(answer, 1, because).is_err());
        }
    }

    #[test]
    fn the_exit_code_must_agree() {
        assert!(check(&answer(false, "open", &[]), 1, &[]).is_err());
        assert!(check(&answer(true, "closed", &[("cart", "closed")]), 1, &["cart"]).is_err());
    }
}
