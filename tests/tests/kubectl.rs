//! The first commands of every day, by the machine's kubectl and by the newest one.

use std::process::Command;
use std::time::Duration;

use weft_tests::cluster::{COMMAND_MAX, given, machine_kubectl};
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
          env: [{ name: COLOUR, value: COLOUR_VALUE }]
          ports: [{ containerPort: 8080 }]
---
apiVersion: v1
kind: Service
metadata: { name: shop }
spec:
  selector: { app: shop }
  ports: [{ port: 80, targetPort: 8080 }]
";

/// One kubectl against one cluster.
struct Kubectl<'a> {
    cluster: &'a Cluster,
    program: String,
}

impl Kubectl<'_> {
    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.cluster.kubectl_command(&self.program);
        command.args(args);
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).run(COMMAND_MAX)
    }

    /// Runs a command on a terminal that util-linux's `script` makes, with `input` typed into it.
    fn on_a_terminal(&self, args: &[&str], input: &str) -> Output {
        let kubeconfig = self.cluster.kubeconfig();
        let line = format!("{} --kubeconfig {} {}", self.program, kubeconfig.display(), args.join(" "));
        let mut script = Command::new("script");
        script.args(["-q", "-e", "-c", &line, "/dev/null"]).env_remove("KUBECONFIG");
        Running::start_with(&mut script, input).end(COMMAND_MAX)
    }

    fn applies(&self) {
        let red = self.cluster.manifest(&MANIFEST.replace("COLOUR_VALUE", "red"));
        let said = self.run(&["apply", "-f", &red]).ok();
        assert!(
            said.contains("deployment.apps/shop created") && said.contains("service/shop created"),
            "{said}"
        );
        let said = self.run(&["rollout", "status", "deployment/shop", "--timeout=50s"]).ok();
        assert!(said.contains("successfully rolled out"), "{said}");
        let said = self.run(&["apply", "-f", &red]).ok();
        assert!(said.contains("deployment.apps/shop unchanged"), "{said}");
        let blue = self.cluster.manifest(&MANIFEST.replace("COLOUR_VALUE", "blue"));
        assert!(self.run(&["apply", "-f", &blue]).ok().contains("deployment.apps/shop configured"));
        self.run(&["rollout", "status", "deployment/shop", "--timeout=50s"]).ok();
        let colour = self.run(&["exec", "deploy/shop", "--", "sh", "-c", "echo $COLOUR"]).ok();
        assert_eq!(colour.trim(), "blue", "the rolled out Pods have the new environment");
    }

    fn shows(&self) {
        let nodes = self.run(&["get", "nodes", "-o", "wide"]).ok();
        assert_eq!(nodes.lines().filter(|line| line.contains(" Ready ")).count(), 2, "{nodes}");
        let pods = self.run(&["get", "pods,services,deployments", "-A", "-o", "wide"]).ok();
        for word in
            ["pod/shop-", "service/shop", "service/kubernetes", "deployment.apps/shop", "10.96.", "10.244."]
        {
            assert!(pods.contains(word), "no {word} in {pods}");
        }
        let (name, _) = self.cluster.pods("app=shop", 2).remove(0);
        for (what, words) in [
            (
                format!("pod/{name}"),
                ["Node:", "Started", "weft.local/demo:1", "Successfully assigned"].as_slice(),
            ),
            ("service/shop".into(), &["Type:", "ClusterIP", "Endpoints:", ":8080"]),
            ("deployment/shop".into(), &["2 desired", "RollingUpdate", "Scaled up replica set", "blue"]),
            ("node/node-1".into(), &["InternalIP", "Non-terminated Pods", "cpu", "Ready"]),
        ] {
            let said = self.run(&["describe", &what]).ok();
            for word in words {
                assert!(said.contains(word), "no {word:?} in describe {what}:\n{said}");
            }
        }
        assert!(self.run(&["get", "pods", "-o", "yaml"]).ok().contains("phase: Running"));
        assert!(self.run(&["get", "pod", "nobody"]).refused().contains("pods \"nobody\" not found"));
    }

    fn scales(&self) {
        for (count, text) in [(4, "4"), (1, "1")] {
            let said = self.run(&["scale", "deployment/shop", &format!("--replicas={text}")]).ok();
            assert!(said.contains("scaled"), "{said}");
            self.run(&["rollout", "status", "deployment/shop", "--timeout=50s"]).ok();
            self.cluster.pods("app=shop", count);
        }
    }

    fn reads_logs(&self) {
        let said = self.run(&["logs", "deploy/shop"]).ok();
        assert!(said.contains("HTTP on 8080"), "{said}");
        let said = self.run(&["logs", "-l", "app=shop", "--tail=1", "--timestamps", "--prefix"]).ok();
        assert!(said.starts_with("[pod/shop-") && said.contains("Z shop-"), "{said}");
        self.run(&["exec", "deploy/shop", "--", "sh", "-c", "echo from a session > /proc/1/fd/1"]).ok();
        let follow = Running::start(&mut self.command(&["logs", "-f", "deploy/shop"]));
        self.run(&["exec", "deploy/shop", "--", "sh", "-c", "echo later > /proc/1/fd/1"]).ok();
        std::thread::sleep(Duration::from_secs(1));
        let said = follow.kill().stdout;
        assert!(said.contains("from a session") && said.contains("later"), "{said}");
        assert!(self.run(&["logs", "deploy/shop", "-c", "no"]).refused().contains("no"));
    }

    fn executes(&self) {
        let output = self.run(&["exec", "deploy/shop", "--", "sh", "-c", "echo out; echo err >&2; exit 7"]);
        assert_eq!((output.code, output.stdout.trim()), (7, "out"), "{output:?}");
        assert!(output.stderr.starts_with("err\n"), "{output:?}");
        let mut command = self.command(&["exec", "-i", "deploy/shop", "--", "sha256sum"]);
        let digest = Running::start_with(&mut command, &"weft\n".repeat(200_000)).end(COMMAND_MAX).ok();
        let mut sum = Command::new("sha256sum");
        let wanted = Running::start_with(&mut sum, &"weft\n".repeat(200_000)).end(COMMAND_MAX).ok();
        assert_eq!(digest, wanted, "a megabyte of input arrives whole");
        let output = self.on_a_terminal(
            &["exec", "-it", "deploy/shop", "--", "sh"],
            "tty\nstty size\necho $((6*7))\nexit 3\n",
        );
        assert_eq!(output.code, 3, "{output:?}");
        assert!(output.stdout.contains("/dev/pts/") && output.stdout.contains("42\r\n"), "{output:?}");
        let output = self.run(&["exec", "deploy/shop", "--", "/no/such/program"]);
        assert!(output.clone().refused().contains("/no/such/program"), "{output:?}");
    }

    /// A Pod that is talked to from its first word: by `run -i`, and by `attach` to one that runs.
    fn attaches(&self) {
        let image = "--image=weft.local/demo:1";
        let talk = ["run", "talk", "-i", "--rm", "--quiet", "--restart=Never", "--command", image];
        let mut run = self.command(&[&talk[..], &["--", "sha256sum"]].concat());
        let said = Running::start_with(&mut run, "weft\n").end(COMMAND_MAX);
        let mut sum = Command::new("sha256sum");
        let wanted = Running::start_with(&mut sum, "weft\n").end(COMMAND_MAX).ok();
        assert_eq!(said.clone().ok(), wanted, "{said:?}");
        self.run(&["run", "shell", "-i", "-t", "--attach=false", "--command", image, "--", "sh"]).ok();
        self.cluster.ready("shell");
        let said = self.on_a_terminal(&["attach", "-it", "shell"], "echo $((6*7)); exit\n");
        assert!(said.stdout.contains("42\r\n"), "{said:?}");
        self.run(&["delete", "pod", "shell", "--now"]).ok();
    }

    fn deletes(&self) {
        let said = self.run(&["delete", "deployment/shop", "service/shop", "--timeout=50s"]).ok();
        assert!(said.contains("deployment.apps \"shop\" deleted"), "{said}");
        until("the Pods to be gone", COMMAND_MAX, || {
            let pods = self.cluster.get(&["pods", "-l", "app=shop"]);
            pods["items"].as_array().is_some_and(Vec::is_empty).then_some(())
        });
    }
}

#[test]
fn the_commands_of_every_day_work_with_old_and_new_clients() {
    let cluster = Cluster::up(2, &["--no-demo"]);
    let image = given("WEFT_DEMO_IMAGE");
    for node in ["node-1", "node-2"] {
        cluster.exec(node, &["agentctl", "image", "load", &image]).ok();
    }
    for program in [machine_kubectl(), given("WEFT_KUBECTL_NEWEST")] {
        let kubectl = Kubectl { cluster: &cluster, program };
        let version = kubectl.run(&["version"]).ok();
        assert!(version.contains("Server Version"), "{version}");
        kubectl.applies();
        kubectl.shows();
        kubectl.scales();
        kubectl.reads_logs();
        kubectl.executes();
        kubectl.attaches();
        kubectl.deletes();
    }
}
