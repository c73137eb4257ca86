//! Images from a real registry on loopback, pushed by skopeo. Needs root, `docker-registry` and `skopeo`.

#[path = "support/bench.rs"]
mod support;

use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::json;
use support::{Bench, image_archive};

/// A registry that ends with the test.
struct Registry {
    process: Child,
    port: u16,
    dir: tempfile::TempDir,
}

impl Registry {
    async fn start() -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let dir = tempfile::tempdir().unwrap();
        let config = json!({
            "version": 0.1,
            "storage": { "filesystem": { "rootdirectory": dir.path().join("blobs") } },
            "http": { "addr": format!("127.0.0.1:{port}") },
        });
        let file = dir.path().join("config.yml");
        std::fs::File::create(&file).unwrap().write_all(config.to_string().as_bytes()).unwrap();
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        for _ in 0..200 {
            if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Self { process, port, dir }
    }

    /// Pushes a small image as `NAME`.
    fn push(&self, name: &str) {
        let archive = self.dir.path().join("image.tar");
        std::fs::write(&archive, image_archive(&["weft.test/pushed:1"])).unwrap();
        let status = Command::new("skopeo")
            .args(["--insecure-policy", "copy", "--dest-tls-verify=false", "--dest-compress-format=gzip"])
            .arg(format!("docker-archive:{}", archive.display()))
            .arg(format!("docker://127.0.0.1:{}/{name}", self.port))
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(status.success());
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_pulled_and_run() {
    let registry = Registry::start().await;
    registry.push("team/box:1");
    let mut bench = Bench::new("pull").await;
    let image = format!("127.0.0.1:{}/team/box:1", registry.port);
    let pod = |image: &str| {
        json!({
            "containers": [{ "name": "c", "image": image, "imagePullPolicy": "Always", "command": ["/bin/sleep", "1000"] }],
            "terminationGracePeriodSeconds": 1,
        })
    };
    bench.run("p", pod(&image));
    let status = bench.phase("p", "Running").await;
    let id = status["containerStatuses"][0]["imageID"].as_str().unwrap().to_owned();
    assert!(id.starts_with(&format!("127.0.0.1:{}/team/box@sha256:", registry.port)), "{id}");
    bench.event("Pulled", "Successfully pulled image").await;
    bench.run("none", pod(&format!("127.0.0.1:{}/team/none:1", registry.port)));
    let event = bench.event("Failed", "is not in the registry").await;
    assert_eq!(event.field_path, "spec.containers{c}");
    bench
        .until("ErrImagePull", 10, |b| {
            let reason = b.status("none")["containerStatuses"][0]["state"]["waiting"]["reason"].clone();
            (reason == "ErrImagePull").then_some(())
        })
        .await;
    bench.run("nobody", pod("127.0.0.1:1/team/box:1"));
    bench.event("Failed", "registry 127.0.0.1:1 failed").await;
    bench.run(
        "never",
        json!({
            "containers": [{ "name": "c", "image": "weft.test/none:1", "imagePullPolicy": "Never" }],
        }),
    );
    bench.event("Failed", "not present with pull policy of Never").await;
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_oci_layout_is_loaded() {
    let bench = Bench::new("layout").await;
    let dir = tempfile::tempdir().unwrap();
    let (archive, layout) = (dir.path().join("docker.tar"), dir.path().join("oci"));
    // A layout takes one image after the other; an archive of it is a layout with several.
    for (source, name) in
        [("weft.test/source:1", "weft.test/layout:2"), ("weft.test/source:2", "weft.test/layout:3")]
    {
        std::fs::write(&archive, image_archive(&["weft.test/first:1", source])).unwrap();
        let status = Command::new("skopeo")
            .args(["--insecure-policy", "copy"])
            .arg(format!("docker-archive:{}:{source}", archive.display()))
            .arg(format!("oci:{}:{name}", layout.display()))
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(status.success());
    }
    let mut tar = tar::Builder::new(Vec::new());
    tar.append_dir_all(".", &layout).unwrap();
    let names = bench.runtime().load_image(&tar.into_inner().unwrap()[..]).await.unwrap();
    assert_eq!(names, ["weft.test/layout:2", "weft.test/layout:3"]);
    for name in &names {
        assert!(bench.runtime().images().iter().any(|image| image.names.contains(name)), "{name}");
    }
    let error = bench.runtime().load_image(&b"no archive"[..]).await.unwrap_err();
    assert!(error.to_string().starts_with("image archive not loaded"), "{error}");
    bench.close().await;
}
