//! Stock peers: nginx behind the proxy; curl, h2load and openssl in front of it.
//! It must not know their options beyond what a user would type.
//! Part of the test binary; a tool that is missing is said and skipped, and CI installs them all.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use tempfile::TempDir;

use crate::support::proxy::ALL_TO_APP;
use crate::support::{until, Authority, Proxy};

/// Whether a tool is there.
fn has(tool: &str) -> bool {
    let found = Command::new(tool).arg("--version").output();
    let found = found.or_else(|_| Command::new(tool).arg("-v").output());
    if found.is_err() {
        eprintln!("skipped: {tool} is not installed");
    }
    found.is_ok()
}

fn tool(name: &str, arguments: &[&str]) -> (Output, String) {
    let output = Command::new(name)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (output, text)
}

/// nginx on a Unix socket, serving a folder.
struct Nginx(Child);

impl Nginx {
    fn start(folder: &Path) -> Nginx {
        let dir = folder.display();
        let conf = format!(
            "daemon off;\nmaster_process off;\npid {dir}/nginx.pid;\nerror_log {dir}/nginx.err;\nevents {{}}\nhttp {{\n  access_log off;\n  client_body_temp_path {dir}/t1; proxy_temp_path {dir}/t2; fastcgi_temp_path {dir}/t3; uwsgi_temp_path {dir}/t4; scgi_temp_path {dir}/t5;\n  server {{ listen unix:{dir}/nginx.sock; root {dir}/www; }}\n}}\n"
        );
        fs::write(folder.join("nginx.conf"), conf).unwrap();
        fs::create_dir(folder.join("www")).unwrap();
        fs::write(folder.join("www/index.html"), "from nginx").unwrap();
        fs::write(folder.join("www/big.bin"), vec![b'n'; 8 << 20]).unwrap();
        let child = Command::new("nginx")
            .arg("-c")
            .arg(folder.join("nginx.conf"))
            .args(["-e", "stderr"])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let nginx = Nginx(child);
        let socket = folder.join("nginx.sock");
        until("nginx listens", || {
            std::os::unix::net::UnixStream::connect(&socket).ok()
        });
        nginx
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn before_nginx() -> Option<(Proxy, Nginx)> {
    if !has("nginx") {
        return None;
    }
    let folder = TempDir::new().unwrap();
    let nginx = Nginx::start(folder.path());
    let proxy = Proxy::start_in(
        folder,
        &format!("listeners: [{{name: web, bind: '127.0.0.1:0'}}]\npools: [{{name: app, endpoints: ['unix:FOLDER/nginx.sock']}}]\n{ALL_TO_APP}"),
    );
    Some((proxy, nginx))
}

#[test]
fn nginx_serves_pages_ranges_and_revalidations_behind_the_proxy() {
    let Some((proxy, _nginx)) = before_nginx() else {
        return;
    };

    let page = proxy.get("/");
    let etag = page.header("etag").unwrap_or("").to_owned();
    let same = proxy.ask("GET", "/", &format!("if-none-match: {etag}\r\n"));
    let range = proxy.ask("GET", "/", "range: bytes=5-9\r\n");
    let missing = proxy.get("/missing");
    let head = proxy.ask("HEAD", "/big.bin", "");

    assert_eq!((page.status, &*page.text()), (200, "from nginx"));
    assert_eq!(
        (same.status, range.status, &*range.text()),
        (304, 206, "nginx")
    );
    assert_eq!(
        (missing.status, &*missing.why()),
        (404, ""),
        "its own answer, without a cause"
    );
    assert_eq!(head.header("content-length"), Some("8388608"));
}

#[test]
fn curl_loads_a_large_file_over_http1_and_http2() {
    let Some((proxy, _nginx)) = before_nginx() else {
        return;
    };
    if !has("curl") {
        return;
    }
    let url = format!("http://{}/big.bin", proxy.address("web"));

    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let (output, text) = tool(
            "curl",
            &[
                "-sS",
                version,
                "-o",
                "/dev/null",
                "-w",
                "%{http_code} %{size_download} %{http_version}",
                &url,
            ],
        );

        assert!(output.status.success(), "{output:?}");
        assert!(text.starts_with("200 8388608 "), "{version}: {text}");
    }
}

#[test]
fn h2load_gets_every_answer() {
    let Some((proxy, _nginx)) = before_nginx() else {
        return;
    };
    if !has("h2load") {
        return;
    }
    let url = format!("http://{}/", proxy.address("web"));

    for protocol in [&["-m", "10"][..], &["--h1", "-m", "1"]] {
        let (_, text) = tool(
            "h2load",
            &[&["-n", "2000", "-c", "10"], protocol, &[&url]].concat(),
        );

        assert!(
            text.contains("2000 succeeded, 0 failed, 0 errored, 0 timeout"),
            "{text}"
        );
    }
}

/// A proxy with a certificate for `a.test` and one for `b.test`.
fn over_tls() -> Proxy {
    let (authority, folder) = (Authority::new(), TempDir::new().unwrap());
    authority.0.write(folder.path(), "ca");
    for name in ["a", "b"] {
        authority
            .issue(&[&format!("{name}.test")])
            .write(folder.path(), name);
    }
    Proxy::start_in(
        folder,
        "listeners: [{name: web, bind: '127.0.0.1:0', tls: {certificates: [{cert: a.crt, key: a.key}, {cert: b.crt, key: b.key}]}}]\nroutes: [{name: all, rules: [{respond: {status: 200, body: hello}}]}]\n",
    )
}

#[test]
fn curl_verifies_the_certificate_and_speaks_http2() {
    if !has("curl") {
        return;
    }
    let proxy = over_tls();
    let port = proxy.address("web").port();
    let ca = proxy.file("ca.crt");

    let (output, text) = tool(
        "curl",
        &[
            "-sS",
            "--cacert",
            ca.to_str().unwrap(),
            "--connect-to",
            &format!("::127.0.0.1:{port}"),
            "-w",
            " %{http_version}",
            &format!("https://a.test:{port}/"),
        ],
    );

    assert!(output.status.success(), "{output:?}");
    assert_eq!(text, "hello 2");
}

#[test]
fn curl_is_told_of_a_misdirected_request_over_http2() {
    if !has("curl") {
        return;
    }
    let proxy = over_tls();
    let port = proxy.address("web").port();

    let (output, text) = tool(
        "curl",
        &[
            "-sSk",
            "--connect-to",
            &format!("::127.0.0.1:{port}"),
            "-H",
            "Host: b.test",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code} %{http_version}",
            &format!("https://a.test:{port}/"),
        ],
    );

    assert!(output.status.success(), "{output:?}");
    assert_eq!(text, "421 2");
}

#[test]
fn openssl_resumes_a_session() {
    if !has("openssl") {
        return;
    }
    let proxy = over_tls();
    let address = proxy.address("web").to_string();

    let (_, text) = tool(
        "openssl",
        &[
            "s_client",
            "-connect",
            &address,
            "-servername",
            "a.test",
            "-tls1_2",
            "-reconnect",
        ],
    );

    assert!(text.contains("Reused, TLSv1.2"), "{text}");
}
