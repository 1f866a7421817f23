//! The ports of the demo's proxies, and the configurations with every port put in.
//! It must not know what the configurations say beyond the names of ports.
//! Called by `demo` before it starts the proxies.

use std::collections::BTreeMap;
use std::io;
use std::net::TcpListener;

/// Ports of the proxies.
pub(super) struct Ports {
    pub(super) web: u16,
    pub(super) tcp: u16,
    pub(super) a_out: u16,
    pub(super) a_orders: u16,
    pub(super) a_billing: u16,
    pub(super) edge_admin: u16,
    pub(super) a_admin: u16,
    pub(super) b_admin: u16,
    a_in: u16,
    b_in: u16,
}

impl Ports {
    /// Takes the usual ports where they are free, and others where not.
    pub(super) fn choose() -> io::Result<Ports> {
        // Held until all are chosen, so that none is chosen twice.
        let mut held = Vec::new();
        let mut port = |usual: u16| {
            let listener = TcpListener::bind(("127.0.0.1", usual))
                .or_else(|_| TcpListener::bind("127.0.0.1:0"))?;
            let port = listener.local_addr()?.port();
            held.push(listener);
            io::Result::Ok(port)
        };
        Ok(Ports {
            web: port(8080)?,
            tcp: port(8081)?,
            a_out: port(8090)?,
            a_orders: port(8091)?,
            a_billing: port(8092)?,
            a_in: port(8093)?,
            b_in: port(8094)?,
            edge_admin: port(9901)?,
            a_admin: port(9902)?,
            b_admin: port(9903)?,
        })
    }

    /// Ports by the names the configurations have for them.
    fn named(&self) -> [(&'static str, u16); 10] {
        [
            ("DEMO_WEB", self.web),
            ("DEMO_TCP", self.tcp),
            ("DEMO_A_OUT", self.a_out),
            ("DEMO_A_ORDERS", self.a_orders),
            ("DEMO_A_BILLING", self.a_billing),
            ("DEMO_A_IN", self.a_in),
            ("DEMO_B_IN", self.b_in),
            ("DEMO_EDGE_ADMIN", self.edge_admin),
            ("DEMO_A_ADMIN", self.a_admin),
            ("DEMO_B_ADMIN", self.b_admin),
        ]
    }
}

/// What the configurations' variables stand for in this run.
pub(super) struct Values(BTreeMap<&'static str, String>);

impl Values {
    /// Ports of proxies and services, and the folder for sockets.
    pub(super) fn new(ports: &Ports, services: &[(&'static str, u16)], folder: &str) -> Values {
        let ports = ports.named().into_iter().chain(services.iter().copied());
        let mut values: BTreeMap<_, _> =
            ports.map(|(name, port)| (name, port.to_string())).collect();
        values.insert("DEMO_DIR", folder.to_owned());
        Values(values)
    }

    /// Puts values in for `${env:NAME:-default}`. Done here and not by the proxies, so that the files can be reloaded
    /// and read by commands that do not have the demo's environment.
    pub(super) fn fill(&self, template: &str) -> String {
        let mut filled = String::with_capacity(template.len());
        let mut rest = template;
        while let Some((before, after)) = rest.split_once("${env:") {
            filled.push_str(before);
            let known = after.split_once('}').and_then(|(inside, after)| {
                let name = inside.split(":-").next()?;
                Some((self.0.get(name)?, after))
            });
            match known {
                Some((value, after)) => {
                    filled.push_str(value);
                    rest = after;
                }
                None => {
                    filled.push_str("${env:");
                    rest = after;
                }
            }
        }
        filled.push_str(rest);
        filled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_variables_are_filled_and_others_stay() {
        let values = Values(BTreeMap::from([("DEMO_WEB", "81".to_owned())]));

        let filled = values.fill("a: 127.0.0.1:${env:DEMO_WEB:-8080}\nb: ${env:OTHER:-x} ${path}");

        assert_eq!(filled, "a: 127.0.0.1:81\nb: ${env:OTHER:-x} ${path}");
    }

    #[test]
    fn no_port_is_chosen_twice() {
        let ports = Ports::choose().unwrap().named();

        let distinct: std::collections::BTreeSet<u16> =
            ports.iter().map(|(_, port)| *port).collect();

        assert_eq!(distinct.len(), ports.len());
    }
}
