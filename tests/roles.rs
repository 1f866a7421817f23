//! Both directions: from the edge through two node proxies to a service.
//! It must not know more of a mesh than hosts and local ports.
//! Part of the test binary.

use crate::support::proxy::pool;
use crate::support::{Conn, Proxy, Upstream};

/// Node B: lets the others' requests in to its service.
fn node_b(service: &Upstream) -> Proxy {
    Proxy::start(&format!(
        "listeners:\n- {{name: inbound, role: mesh-inbound, bind: '127.0.0.1:0', trusted_proxies: [127.0.0.0/8]}}\n{}routes:\n- {{name: orders, listeners: [inbound], hosts: [orders.mesh], rules: [{{pool: app}}]}}\n",
        pool("app", &[service])
    ))
}

/// Node A: takes its workloads' requests out, by host and on a port of the service's own.
fn node_a(node_b: &Proxy) -> Proxy {
    Proxy::start(&format!(
        "listeners:\n- {{name: outbound, role: mesh-outbound, bind: '127.0.0.1:0'}}\n- {{name: orders-port, role: mesh-outbound, bind: '127.0.0.1:0', service: orders.mesh}}\npools:\n- {{name: orders, endpoints: ['{}']}}\nroutes:\n- {{name: to-orders, listeners: [outbound, orders-port], hosts: [orders.mesh], rules: [{{pool: orders, rewrite: {{host: orders.mesh}}}}]}}\n",
        node_b.address("inbound")
    ))
}

#[test]
fn a_request_travels_from_the_edge_over_two_nodes_to_a_service() {
    let service = Upstream::echo();
    let node_b = node_b(&service);
    let node_a = node_a(&node_b);
    let edge = Proxy::http(&format!(
        "pools:\n- {{name: mesh, endpoints: ['{}']}}\nroutes:\n- {{name: shop, hosts: [shop.test], rules: [{{pool: mesh, rewrite: {{host: orders.mesh, path_prefix: /orders}}, match: [{{path: {{prefix: /api}}}}]}}]}}\n",
        node_a.address("outbound")
    ));

    let reply = edge.ask("GET", "/api/7?x=y", "host: shop.test\r\n");

    assert_eq!(reply.status, 200, "{}", reply.text());
    let seen = service.last();
    assert_eq!(
        (&*seen.target, seen.header("host")),
        ("/orders/7?x=y", Some("orders.mesh"))
    );
    let roles = [&edge, &node_a, &node_b].map(|proxy| proxy.logged(|_| true)["role"].clone());
    assert_eq!(roles, ["ingress", "mesh-outbound", "mesh-inbound"]);
}

#[test]
fn a_workload_reaches_a_service_by_a_port_of_its_own() {
    let service = Upstream::echo();
    let node_b = node_b(&service);
    let node_a = node_a(&node_b);

    let reply = Conn::open(node_a.address("orders-port"))
        .ask("GET /x HTTP/1.1\r\nhost: localhost:1234\r\n\r\n");

    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(service.last().header("host"), Some("orders.mesh"));
}

#[test]
fn a_service_nobody_routes_is_not_reached() {
    let service = Upstream::echo();
    let node_b = node_b(&service);
    let node_a = node_a(&node_b);

    let reply =
        Conn::open(node_a.address("outbound")).ask("GET / HTTP/1.1\r\nhost: other.mesh\r\n\r\n");

    assert_eq!((reply.status, &*reply.why()), (404, "no_route"));
    assert_eq!(service.requests(), 0);
}

#[test]
fn a_route_without_listeners_is_not_served_in_the_mesh() {
    let proxy = Proxy::start(
        "listeners:\n- {name: web, bind: '127.0.0.1:0'}\n- {name: outbound, role: mesh-outbound, bind: '127.0.0.1:0'}\nroutes:\n- {name: edge-only, rules: [{respond: {status: 200}}]}\n- {name: mesh-only, listeners: [outbound], hosts: [m.test], rules: [{respond: {status: 204}}]}\n",
    );
    let ask = |listener: &str| {
        let mut conn = Conn::open(proxy.address(listener));
        conn.ask("GET / HTTP/1.1\r\nhost: a.test\r\n\r\n").status
    };

    assert_eq!((ask("web"), ask("outbound")), (200, 404));
}
