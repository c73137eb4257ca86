//! Streams into Pods by real clients: port-forward, exec, attach and cp by kubectl that speaks WebSocket and by one that knows
//! only SPDY, and HTTP through the API server's proxy.

#[path = "streams/forwarded.rs"]
mod forwarded;

use std::process::Command;

use forwarded::Forwarded;
use weft_tests::cluster::{COMMAND_MAX, given};
use weft_tests::{Cluster, Output, Run, Running, until};

const MANIFEST: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: { name: shop }
spec:
  replicas: 2
  selector: { matchLabels: { app: shop } }
  template:
    metadata: { labels: { app: shop } }
    spec:
      terminationGracePeriodSeconds: 1
      containers:
        - name: shop
          image: 'weft.local/demo:1'
          ports: [{ containerPort: 8080, name: web }]
---
apiVersion: v1
kind: Service
metadata: { name: shop }
spec:
  selector: { app: shop }
  ports: [{ port: 80, targetPort: 8080, name: web }]
";

/// Makes a program that keeps a request's head and answers it.
const HEAR: &str = r#"cat > /tmp/hear <<'END'
#!/bin/sh
: > /tmp/heard
while read -r line; do
  echo "$line" >> /tmp/heard
  [ "${#line}" -le 1 ] && break
done
printf 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok'
END
chmod +x /tmp/hear"#;

/// One kubectl against one cluster.
pub(crate) struct Kubectl<'a> {
    pub(crate) cluster: &'a Cluster,
    program: String,
}

impl Kubectl<'_> {
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = self.cluster.kubectl_command(&self.program);
        command.args(args);
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.command(args).run(COMMAND_MAX)
    }

    fn forward(&self, args: &[&str]) -> Forwarded {
        Forwarded::start(&mut self.command(&[&["port-forward"], args].concat()))
    }

    /// To a Pod by itself, by its Deployment and by its Service.
    fn forwards(&self, pod: &str) {
        for target in [&format!("pod/{pod}"), "deployment/shop"] {
            let forwarded = self.forward(&[target, ":8080"]);
            forwarded.echoes(3 << 20);
            forwarded.echoes_at_once(16, 128 << 10);
            let asked = forwarded.get("/hostname");
            assert!(asked.starts_with("shop-"), "{asked}");
        }
        let forwarded = self.forward(&["service/shop", ":80"]);
        forwarded.echoes(1 << 10);
    }

    /// What listens at the Pod's own loopback is reached, and nothing of the machine around it.
    fn forwards_inside_the_pod(&self, pod: &str) {
        let serve =
            "echo only here > /tmp/here; httpd -p 127.0.0.1:9000 -h /tmp; httpd -p '[::1]:9001' -h /tmp";
        self.run(&["exec", pod, "--", "sh", "-c", serve]).ok();
        for port in [":9000", ":9001"] {
            assert_eq!(self.forward(&[&format!("pod/{pod}"), port]).get("/here").trim(), "only here");
        }
        self.run(&["exec", pod, "--", "sh", "-c", "killall httpd"]).ok();
    }

    /// kubectl says what the Pod's kernel said, and ends.
    fn is_refused(&self, pod: &str) {
        let forwarded = self.forward(&[&format!("pod/{pod}"), ":81"]);
        assert_eq!(forwarded.try_get("/"), "");
        let said = forwarded.end();
        for words in ["error forwarding port 81 to pod shop-", "Connection refused"] {
            assert!(said.contains(words), "no {words:?} in {said}");
        }
    }

    fn executes(&self, pod: &str) {
        let output = self.run(&["exec", pod, "--", "sh", "-c", "echo out; echo err >&2; exit 7"]);
        assert_eq!((output.code, output.stdout.trim()), (7, "out"), "{output:?}");
        assert!(output.stderr.starts_with("err\n"), "{output:?}");
        let input = "weft\n".repeat(200_000);
        let mut command = self.command(&["exec", "-i", pod, "--", "sha256sum"]);
        let digest = Running::start_with(&mut command, &input).end(COMMAND_MAX).ok();
        let wanted = Running::start_with(&mut Command::new("sha256sum"), &input).end(COMMAND_MAX).ok();
        assert_eq!(digest, wanted, "a megabyte of input arrives whole");
        let output = self.run(&["exec", pod, "--", "sh", "-c", "yes weft | head -c 3000000"]);
        assert_eq!(output.ok().len(), 3_000_000, "and three of output");
        let output = self.on_a_terminal(&["exec", "-it", pod, "--", "sh"], "tty\nstty size\nexit 3\n");
        assert_eq!(output.code, 3, "{output:?}");
        assert!(output.stdout.contains("/dev/pts/"), "{output:?}");
        assert!(output.stdout.contains("31 97"), "the terminal's size: {output:?}");
        let output = self.run(&["exec", pod, "--", "/no/such/program"]);
        assert!(output.clone().refused().contains("/no/such/program"), "{output:?}");
        let output = self.run(&["exec", pod, "-c", "no", "--", "true"]);
        assert!(output.clone().refused().contains("container no is not valid"), "{output:?}");
    }

    /// Runs a command on a terminal that util-linux's `script` makes, with `input` typed into it.
    fn on_a_terminal(&self, args: &[&str], input: &str) -> Output {
        let kubeconfig = self.cluster.kubeconfig();
        let kubectl = format!("{} --kubeconfig {} {}", self.program, kubeconfig.display(), args.join(" "));
        let mut script = Command::new("script");
        let line = format!("stty rows 31 cols 97; {kubectl}");
        script.args(["-q", "-e", "-c", &line, "/dev/null"]).env_remove("KUBECONFIG");
        Running::start_with(&mut script, input).end(COMMAND_MAX)
    }

    fn attaches(&self) {
        let image = "--image=weft.local/demo:1";
        self.run(&["run", "shell", "-i", "-t", "--attach=false", "--command", image, "--", "sh"]).ok();
        self.cluster.ready("shell");
        let said = self.on_a_terminal(&["attach", "-it", "shell"], "echo $((6*7)); exit\n");
        assert!(said.stdout.contains("42\r\n"), "{said:?}");
        self.run(&["delete", "pod", "shell", "--now"]).ok();
    }

    fn copies(&self, pod: &str) {
        let dir = self.cluster.dir();
        let (there, back) = (dir.join("copied"), dir.join("copied-back"));
        let bytes: Vec<u8> = (0..1_000_000u32).map(|n| (n * 7 % 251) as u8).collect();
        std::fs::write(&there, &bytes).expect("written");
        self.run(&["cp", &there.display().to_string(), &format!("{pod}:/tmp/copied")]).ok();
        self.run(&["cp", &format!("{pod}:/tmp/copied"), &back.display().to_string()]).ok();
        assert!(std::fs::read(&back).expect("read") == bytes, "a file goes there and back");
    }

    /// HTTP through the API server, by the names that a path may have.
    fn asks_through_the_proxy(&self, pod: &str) {
        let get = |path: &str| self.run(&["get", "--raw", &format!("/api/v1/namespaces/default/{path}")]);
        for path in [
            format!("pods/{pod}/proxy/hostname"),
            format!("pods/{pod}:8080/proxy/hostname"),
            format!("pods/http:{pod}:web/proxy/hostname"),
        ] {
            assert_eq!(get(&path).ok().trim(), pod, "{path}");
        }
        for path in [
            "services/shop/proxy/hostname",
            "services/shop:80/proxy/hostname",
            "services/http:shop:web/proxy/",
        ] {
            let said = get(path).ok();
            assert!(said.contains("shop-"), "{path}: {said}");
        }
        let said = get(&format!("pods/{pod}:81/proxy/")).refused();
        assert!(
            said.contains("error trying to reach service") && said.contains("Connection refused"),
            "{said}"
        );
        let said = get("services/shop:81/proxy/").refused();
        assert!(said.contains("no service port 81 found for service \"shop\""), "{said}");
        let said = get("pods/nobody/proxy/").refused();
        assert!(said.contains("pods \"nobody\" not found"), "{said}");
        let stranger =
            ["get", "--as", "stranger", "--raw", "/api/v1/namespaces/default/services/shop:80/proxy/"];
        let said = self.run(&stranger).refused();
        assert!(said.contains("cannot get resource") && said.contains("services/proxy"), "{said}");
    }

    /// What a browser or a program does behind `kubectl proxy`.
    fn browses(&self, pod: &str) {
        let proxy = Forwarded::start(&mut self.command(&["proxy", "--port=0"]));
        let behind =
            |port: u16, path: &str| format!("/api/v1/namespaces/default/pods/{pod}:{port}/proxy{path}");
        let body = "weft".repeat(200_000);
        let (head, echoed) = proxy.asks(&format!("POST {}", behind(8080, "/echo")), "", &body);
        assert!(head.starts_with("HTTP/1.1 200") && echoed == body, "{head}: {} bytes", echoed.len());
        proxy.echoes_behind(&behind(8080, "/"), 1 << 20);
        let serve =
            "mkdir -p /tmp/www/dir; yes weft | head -c 3000000 > /tmp/www/big; httpd -p 9002 -h /tmp/www";
        self.run(&["exec", pod, "--", "sh", "-c", serve]).ok();
        assert_eq!(proxy.get(&behind(9002, "/big")).len(), 2_999_999, "without its last end of a line");
        for (path, leads_to) in [("", "/"), ("/dir", "/dir/")] {
            let (head, _) = proxy.asks(&format!("GET {}", behind(9002, path)), "", "");
            let location = head
                .lines()
                .find_map(|line| line.split_once(": ").filter(|(n, _)| n.eq_ignore_ascii_case("location")));
            assert_eq!(location.map(|(_, to)| to), Some(behind(9002, leads_to).as_str()), "{head}");
        }
        self.run(&["exec", pod, "--", "sh", "-c", "killall httpd"]).ok();
        self.run(&["exec", pod, "--", "sh", "-c", HEAR]).ok();
        let listen = ["exec", pod, "--", "nc", "-ll", "-p", "9003", "-e", "/tmp/hear"];
        let hearing = Running::start(&mut self.command(&listen));
        let headers = "Authorization: Bearer secret\r\nX-Remote-User: admin\r\nX-Asked: yes\r\n";
        until("an answer of the one that listens", COMMAND_MAX, || {
            let (head, body) = proxy.asks(&format!("GET {}", behind(9003, "/x")), headers, "");
            (head.starts_with("HTTP/1.1 200") && body == "ok").then_some(())
        });
        hearing.kill();
        // It ends with its session, or now.
        let _ended = self.run(&["exec", pod, "--", "killall", "nc"]);
        let heard = self.run(&["exec", pod, "--", "cat", "/tmp/heard"]).ok().to_lowercase();
        assert!(
            heard.contains("x-asked: yes")
                && heard.contains(&format!("x-forwarded-uri: {}", behind(9003, "/x"))),
            "{heard}"
        );
        assert!(!heard.contains("secret") && !heard.contains("remote-user"), "{heard}");
    }
}

#[test]
fn streams_reach_pods_by_old_and_new_clients() {
    let cluster = Cluster::up(2, &["--no-demo"]);
    let image = given("WEFT_DEMO_IMAGE");
    for node in ["node-1", "node-2"] {
        cluster.exec(node, &["agentctl", "image", "load", &image]).ok();
    }
    cluster.apply(MANIFEST).ok();
    let pods = cluster.pods("app=shop", 2);
    let nodes: std::collections::BTreeSet<_> = pods.iter().map(|(_, node)| node).collect();
    assert_eq!(nodes.len(), 2, "one Pod on each node");
    for program in ["WEFT_KUBECTL_OLDEST", "WEFT_KUBECTL_BEFORE", "WEFT_KUBECTL_NEWEST"] {
        let kubectl = Kubectl { cluster: &cluster, program: given(program) };
        println!("{}", kubectl.run(&["version"]).ok());
        for (pod, _) in &pods {
            kubectl.forwards(pod);
            kubectl.is_refused(pod);
        }
        let (pod, _) = &pods[0];
        kubectl.forwards_inside_the_pod(pod);
        kubectl.executes(pod);
        kubectl.copies(pod);
        kubectl.attaches();
        for (pod, _) in &pods {
            kubectl.asks_through_the_proxy(pod);
        }
        kubectl.browses(pod);
    }
}
