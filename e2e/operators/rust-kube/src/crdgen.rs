use kube::CustomResourceExt;

fn main() {
    print!("{}", serde_yaml::to_string(&banner_operator::Banner::crd()).expect("a CRD is YAML"));
}
