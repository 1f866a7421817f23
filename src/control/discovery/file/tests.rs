//! File discovery: what a file may say, and files that are replaced while they are watched.
//! It must not know whether an event or the poll noticed a change.
//! Run by `cargo test`.

use super::*;
use crate::control::discovery::watch::Folders;
use crate::control::pools::tests::{pool, until};
use crate::observe::metrics::Metrics;
use crate::snapshot::pool::Source;

fn addresses(specs: &[EndpointSpec]) -> Vec<String> {
    specs.iter().map(|spec| spec.address.to_string()).collect()
}

#[test]
fn strings_and_maps_are_endpoints() {
    let text = "- 10.0.0.1:80\n- address: '[::1]:81'\n  weight: 3\n  labels: {zone: a}\n- unix:/run/a.sock\n";

    let specs = parse(text).unwrap();

    assert_eq!(
        addresses(&specs),
        ["10.0.0.1:80", "[::1]:81", "unix:/run/a.sock"]
    );
    assert_eq!((specs[0].weight, specs[1].weight), (1, 3));
    assert_eq!(specs[1].labels["zone"], "a");
}

#[test]
fn json_is_read_as_well() {
    let text = "[\n\t\"10.0.0.1:80\",\n\t{\"address\": \"10.0.0.2:80\", \"weight\": 0}\n]";

    let specs = parse(text).unwrap();

    assert_eq!(addresses(&specs), ["10.0.0.1:80", "10.0.0.2:80"]);
    assert_eq!(specs[1].weight, 0);
}

#[test]
fn problems_name_their_line() {
    let wrong = [
        (
            "- 10.0.0.1:80\n- web:80\n",
            "2:",
            "\"web:80\" is no address",
        ),
        ("- 10.0.0.1:80\n- 10.0.0.1:80\n", "", "listed twice"),
        (
            "- 10.0.0.1:80\n\n- address: 10.0.0.2:80\n  wieght: 2\n",
            "4:",
            "unknown field `wieght`",
        ),
        (
            "- address: 10.0.0.2:80\n  weight: 2000\n",
            "1:",
            "at most 1000",
        ),
        ("- 10.0.0.1:0\n", "1:", "port 0"),
        ("- unix:run\n", "1:", "absolute"),
        ("a: [\n", "", ""),
        ("", "1:1", "empty"),
        ("web: 1\n", "1:", "a list of endpoints"),
    ];

    for (text, place, fact) in wrong {
        let problem = parse(text).unwrap_err();
        assert!(
            problem.starts_with(place) && problem.contains(fact),
            "{text:?}: {problem}"
        );
    }
}

#[test]
fn too_many_endpoints_are_refused() {
    let text: String = (0..=MAX_ENDPOINTS)
        .map(|n| format!("- 10.0.{}.{}:80\n", n / 250, n % 250))
        .collect();

    assert!(parse(&text).unwrap_err().contains("more than 10000"));
}

#[test]
fn a_file_that_is_too_large_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("endpoints.yaml");
    std::fs::write(&path, vec![b'#'; MAX_BYTES as usize + 1]).unwrap();

    assert!(read_now(&path).unwrap_err().contains("larger than 4194304"));
}

/// Two generations of a folder with one file, switched with a link as Kubernetes does with a ConfigMap.
struct Mounted(tempfile::TempDir);

impl Mounted {
    fn new(text: &str) -> Mounted {
        let mounted = Mounted(tempfile::tempdir().unwrap());
        let root = mounted.0.path();
        mounted.switch("one", text);
        std::os::unix::fs::symlink("..data/endpoints.yaml", root.join("endpoints.yaml")).unwrap();
        mounted
    }

    fn switch(&self, generation: &str, text: &str) {
        let root = self.0.path();
        std::fs::create_dir(root.join(generation)).unwrap();
        std::fs::write(root.join(generation).join("endpoints.yaml"), text).unwrap();
        std::os::unix::fs::symlink(generation, root.join("..new")).unwrap();
        std::fs::rename(root.join("..new"), root.join("..data")).unwrap();
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("endpoints.yaml")
    }
}

#[tokio::test]
async fn a_switched_link_is_noticed_and_a_broken_file_keeps_the_endpoints() {
    let mounted = Mounted::new("- 10.0.0.1:80");
    let pool = pool("web", Source::File(mounted.file()), None, &[]);
    let slot = Slot::new(&pool, &Arc::default(), &Metrics::new(8));
    let changes = Arc::<Folders>::default().watch([mounted.file().as_path()]);
    let task = tokio::spawn(follow(slot.clone(), mounted.file(), changes));

    until("the first read", || {
        addresses(&slot.specs()) == ["10.0.0.1:80"]
    })
    .await;
    mounted.switch("two", "- 10.0.0.2:80");
    until("the second read", || {
        addresses(&slot.specs()) == ["10.0.0.2:80"]
    })
    .await;
    mounted.switch("three", "- 10.0.0.3");
    until("the problem", || slot.problem().is_some()).await;

    let problem = slot.problem().unwrap();
    assert!(problem.contains("endpoints.yaml:1:"), "{problem}");
    assert_eq!(addresses(&slot.specs()), ["10.0.0.2:80"]);
    mounted.switch("four", "- 10.0.0.4:80");
    until("the repair", || slot.problem().is_none()).await;
    assert_eq!(addresses(&slot.specs()), ["10.0.0.4:80"]);
    task.abort();
}
