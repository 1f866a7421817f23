//! Chains of iptables in force: one tool for each family of addresses, so that what one refuses is taken back in the other.
//! It must not know what is in the chains.
//! Called by `kernel`.

use super::kernel::{is_there, was_found, words, Backend, Kernel, Undo};
use super::rules::{chains, Family, Wanted};

impl Kernel {
    /// Puts the chains of the families that are captured in force; of others nothing is touched.
    pub(super) fn put_chains(&self, wanted: &Wanted, undo: &mut Vec<Undo>) -> Result<(), String> {
        for family in with_chains(wanted)? {
            undo.push(self.before(&wanted.name, family)?);
            let (tables, restore, _) = tools(family);
            self.run(restore, &words("--noflush"), &wanted.iptables(family))?;
            for jump in jumps(&wanted.name) {
                let is_there = self.run(tables, &words(&format!("-t nat -C {jump}")), "");
                if is_there.is_err() {
                    self.run(tables, &words(&format!("-t nat -A {jump}")), "")?;
                }
            }
        }
        Ok(())
    }

    /// Asks whether the chains would be taken.
    pub(super) fn try_chains(&self, wanted: &Wanted) -> Result<(), String> {
        for family in with_chains(wanted)? {
            let (_, restore, _) = tools(family);
            let rules = wanted.iptables(family);
            self.run(restore, &words("--noflush --test"), &rules)?;
        }
        Ok(())
    }

    /// Whether a family has any chain of a capture.
    pub(super) fn has_chains(&self, name: &str, family: Family) -> Result<bool, String> {
        let (tables, _, _) = tools(family);
        if family == Family::V6 && !is_there(tables) {
            return Ok(false);
        }
        for chain in chains(name) {
            let listed = self.run(tables, &words(&format!("-t nat -S {chain}")), "");
            if was_found(listed)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Removes the chains of a family, and every jump into them.
    pub(super) fn remove_chains(&self, name: &str, family: Family) -> Result<(), String> {
        let (tables, _, _) = tools(family);
        let is_needless = self.backend == Backend::Nft && !is_there(tables);
        if is_needless || !self.has_chains(name, family)? {
            return Ok(());
        }
        for jump in jumps(name) {
            let jump = words(&format!("-t nat -D {jump}"));
            let mut left = MOST_JUMPS;
            while left > 0 && self.run(tables, &jump, "").is_ok() {
                left -= 1;
            }
        }
        for chain in chains(name) {
            let emptied = self.run(tables, &words(&format!("-t nat -F {chain}")), "");
            if emptied.is_ok() {
                self.run(tables, &words(&format!("-t nat -X {chain}")), "")?;
            }
        }
        Ok(())
    }

    /// Makes the chains of a family what they were.
    pub(super) fn restore(
        &self,
        name: &str,
        family: Family,
        before: Option<&str>,
    ) -> Result<(), String> {
        let (_, restore, _) = tools(family);
        match before {
            None => self.remove_chains(name, family),
            Some(text) => self.run(restore, &words("--noflush"), text).map(drop),
        }
    }

    fn before(&self, name: &str, family: Family) -> Result<Undo, String> {
        let (_, _, save) = tools(family);
        let text = match self.has_chains(name, family)? {
            true => Some(script(name, &self.run(save, &words("-t nat"), "")?)),
            false => None,
        };
        Ok(Undo::Chains {
            name: name.to_owned(),
            family,
            text,
        })
    }
}

/// The families that get chains.
fn with_chains(wanted: &Wanted) -> Result<Vec<Family>, String> {
    if wanted.outbound.has(true) || wanted.inbound.has(true) {
        return Err(
            "TPROXY is set up with nftables only; install it, or use `capture: redirect`".into(),
        );
    }
    let families = Family::ALL.into_iter();
    Ok(families.filter(|family| wanted.takes(*family)).collect())
}

/// Of what iptables-save printed, what makes the chains of a capture again.
fn script(name: &str, saved: &str) -> String {
    let [out, inn] = chains(name);
    let is_of = |line: &&str| {
        [&out, &inn]
            .iter()
            .any(|chain| line.starts_with(&format!("-A {chain} ")))
    };
    let rules: String = saved
        .lines()
        .filter(is_of)
        .flat_map(|line| [line, "\n"])
        .collect();
    format!("*nat\n:{out} - [0:0]\n:{inn} - [0:0]\n{rules}COMMIT\n")
}

fn jumps(name: &str) -> [String; 2] {
    let [out, inn] = chains(name);
    [
        format!("OUTPUT -p tcp -j {out}"),
        format!("PREROUTING -p tcp -j {inn}"),
    ]
}

/// What changes, restores and saves the chains of a family.
fn tools(family: Family) -> (&'static str, &'static str, &'static str) {
    match family {
        Family::V4 => ("iptables", "iptables-restore", "iptables-save"),
        Family::V6 => ("ip6tables", "ip6tables-restore", "ip6tables-save"),
    }
}

const MOST_JUMPS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_are_restored_without_those_of_others() {
        let saved = "# Generated\n*nat\n:OUTPUT ACCEPT [0:0]\n:WINDROSE_WEB_I - [0:0]\n:WINDROSE_WEB_O - [0:0]\n-A OUTPUT -p tcp -j WINDROSE_WEB_O\n-A WINDROSE_WEB_O -o lo -j RETURN\n-A WINDROSE_WEB_OTHER_O -j RETURN\nCOMMIT\n";

        assert_eq!(
            script("web", saved),
            "*nat\n:WINDROSE_WEB_O - [0:0]\n:WINDROSE_WEB_I - [0:0]\n-A WINDROSE_WEB_O -o lo -j RETURN\nCOMMIT\n"
        );
    }
}
