//! Who may log in: names and hashes from the settings, from consumers and from a htpasswd file.
//! It must not know requests or remember who logged in.
//! Called by `basic_auth`, which reads users while it is built and verifies on threads that may block.

use std::collections::HashMap;

use crate::contract::{Build, Problem};

use super::hash::{self, Refused, Work};
use super::Config;

/// Names and hashes, every one parsed before.
pub(super) struct Users {
    hashes: HashMap<String, String>,
    /// Verified in place of an unknown user's hash, at the cost of the costliest user's, so that time tells no names.
    decoy: String,
}

impl Users {
    pub(super) fn of(config: &Config, build: &Build<'_>, problems: &mut Vec<Problem>) -> Users {
        let mut reader = Reader {
            hashes: HashMap::new(),
            costliest: Work::LEAST,
            problems,
        };
        for (name, hash) in &config.users {
            let place = Place {
                path: &format!("users.{name}"),
                line: "",
            };
            reader.user(place, name, hash);
        }
        if let Some(file) = &config.htpasswd {
            reader.file(file, build);
        }
        for (name, hash) in build.consumers.passwords() {
            let place = Place {
                path: "",
                line: "among `consumers`: ",
            };
            reader.user(place, name, hash);
        }
        let is_nobody = reader.hashes.is_empty() && build.consumers.are_complete();
        if is_nobody && reader.problems.is_empty() {
            reader.problems.push(
                Problem::at("", "there is no user, so nobody could log in")
                    .help("add `users`, a `htpasswd` file, or a `password` to one of `consumers`"),
            );
        }
        Users {
            hashes: reader.hashes,
            decoy: reader.costliest.decoy(),
        }
    }

    pub(super) fn hash_of(&self, name: &str) -> Option<&str> {
        self.hashes.get(name).map(String::as_str)
    }

    /// Blocks for as long as the hash takes.
    pub(super) fn verify(&self, name: &str, password: &[u8]) -> bool {
        let hash = self.hash_of(name);
        let matches = hash::verify(password, hash.unwrap_or(&self.decoy));
        matches && hash.is_some()
    }
}

/// Users being read.
struct Reader<'a> {
    hashes: HashMap<String, String>,
    costliest: Work,
    problems: &'a mut Vec<Problem>,
}

/// Where a user is written.
#[derive(Clone, Copy)]
struct Place<'a> {
    path: &'a str,
    /// In a file, `line 3 of "users": `; else empty.
    line: &'a str,
}

impl Reader<'_> {
    fn file(&mut self, file: &str, build: &Build<'_>) {
        let text = match std::fs::read_to_string(build.path(file)) {
            Ok(text) => text,
            Err(error) => {
                let fact = format!("cannot read \"{file}\": {error}");
                self.problems.push(Problem::at("htpasswd", fact).help(
                    "relative paths begin at the configuration's folder; `htpasswd -cB FILE NAME` makes a file",
                ));
                return;
            }
        };
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let place = Place {
                path: "htpasswd",
                line: &format!("line {} of \"{file}\": ", index + 1),
            };
            match line.split_once(':') {
                Some((name, hash)) => self.user(place, name, hash),
                None => self.refuse(
                    place,
                    "there is no colon",
                    "each line is a name, a colon and a hash",
                ),
            }
        }
    }

    fn user(&mut self, place: Place<'_>, name: &str, hash: &str) {
        if name.is_empty() || name.contains(|c: char| c == ':' || c.is_control()) {
            let fact = format!("{name:?} cannot be a user's name");
            return self.refuse(
                place,
                &fact,
                "names are not empty and have no colon (RFC 7617)",
            );
        }
        let work = match Work::of(hash) {
            Ok(work) => work,
            Err(Refused { fact, remedy }) => {
                let fact = format!("the hash of \"{name}\" {fact}");
                return self.refuse(place, &fact, remedy);
            }
        };
        if work.time() > self.costliest.time() {
            self.costliest = work;
        }
        let earlier = self.hashes.insert(name.to_owned(), hash.to_owned());
        if earlier.is_some() {
            let fact = format!("the user \"{name}\" is there twice");
            self.refuse(place, &fact, "keep one of the lines");
        }
    }

    fn refuse(&mut self, place: Place<'_>, fact: &str, remedy: &str) {
        let problem = Problem::at(place.path, format!("{}{fact}", place.line));
        self.problems.push(problem.help(remedy));
    }
}

#[cfg(test)]
mod tests {
    use super::super::PLUGIN;
    use super::*;
    use crate::contract::{Consumer, Credential};
    use crate::testkit::Kit;

    /// Well formed, of nobody's password, and made without work.
    fn hash(cost: u32) -> String {
        format!("$2y${cost:02}${}", ".".repeat(53))
    }

    /// Of "password", from the tests of the reference implementation.
    const ARGON2: &str =
        "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";

    fn problems(users: &str) -> Vec<Problem> {
        Kit::new().problems(&PLUGIN, users)
    }

    #[test]
    fn unknown_users_cost_as_much_as_the_costliest_known_one() {
        let config = format!(
            "users: {{ann: {}, bob: {}, eve: \"{ARGON2}\"}}",
            hash(4),
            hash(6)
        );
        let config: Config = serde_yaml::from_str(&config).unwrap();
        let kit = Kit::new();
        let users = kit.with_build("test", |build| Users::of(&config, build, &mut Vec::new()));

        assert!(users.decoy.starts_with("$2b$06$"));
        assert!(!users.verify("nobody", b""));
        assert!(users.verify("eve", b"password") && !users.verify("eve", b"passworD"));
    }

    #[test]
    fn other_hashes_are_named_refused_and_never_shown() {
        let cases = [
            ("{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", "SHA-1"),
            ("$apr1$abc$def", "MD5"),
            ("$6$abc$def", "SHA-512"),
            ("$2x$04$abc", "$2x$"),
            ("$argon2d$v=19$m=256,t=2,p=1$abc$def", "Argon2d"),
            ("hunter2", "plain password"),
        ];
        for (hash, kind) in cases {
            let problem = &problems(&format!("users: {{ann: '{hash}'}}"))[0];

            assert_eq!(problem.path, "users.ann");
            assert!(problem.fact.contains(kind), "{}", problem.fact);
            assert!(problem.remedy.contains("htpasswd -nbB"));
            assert!(!problem.fact.contains(hash));
        }
    }

    #[test]
    fn broken_hashes_costs_and_names_are_located() {
        let config = format!(
            "users: {{a: $2y$10$short, b: {}, \"c:d\": {}, \"\": {}}}",
            hash(31),
            hash(4),
            hash(4)
        );
        let paths: Vec<String> = problems(&config).into_iter().map(|p| p.path).collect();

        assert_eq!(paths, ["users.", "users.a", "users.b", "users.c:d"]);
    }

    #[test]
    fn consumers_with_a_password_are_users_and_named_once() {
        let consumer = |name: &str| Consumer {
            name: name.to_owned(),
            ..Consumer::default()
        };
        let password = |hash: &str| [Credential::Password(hash.to_owned())];
        let kit = || Kit::new().with_consumer(consumer("ann"), password(&hash(4)));

        assert!(kit().problems(&PLUGIN, "realm: a").is_empty());
        let twice = kit().problems(&PLUGIN, &format!("users: {{ann: {}}}", hash(4)));
        assert_eq!(
            twice[0].fact,
            "among `consumers`: the user \"ann\" is there twice"
        );
        let plain = Kit::new().with_consumer(consumer("bob"), password("hunter2"));
        let plain = &plain.problems(&PLUGIN, "realm: a")[0];
        assert!(plain.fact.contains("plain password") && !plain.fact.contains("hunter2"));
    }

    #[test]
    fn no_users_at_all_is_refused() {
        assert_eq!(problems("realm: a")[0].path, "");
    }

    #[test]
    fn a_file_is_read_from_the_folder_and_its_lines_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let lines = format!(
            "# team\n\nann:{}\nbob:{{SHA}}abc\ncarl\nann:{}\n",
            hash(4),
            hash(4)
        );
        std::fs::write(folder.path().join("users"), lines).unwrap();
        let kit = Kit::new().in_folder(folder.path());

        let problems = kit.problems(&PLUGIN, "htpasswd: users");

        let facts: Vec<&str> = problems.iter().map(|p| p.fact.as_str()).collect();
        assert_eq!(facts.len(), 3);
        assert!(facts[0].starts_with("line 4 of \"users\": the hash of \"bob\" is unsalted SHA-1"));
        assert_eq!(facts[1], "line 5 of \"users\": there is no colon");
        assert_eq!(
            facts[2],
            "line 6 of \"users\": the user \"ann\" is there twice"
        );
        assert!(problems.iter().all(|p| p.path == "htpasswd"));
    }

    #[test]
    fn a_file_that_is_not_there_is_located() {
        let problem = &problems("htpasswd: no/such/file")[0];

        assert_eq!(problem.path, "htpasswd");
        assert!(problem.fact.starts_with("cannot read \"no/such/file\": "));
    }
}
