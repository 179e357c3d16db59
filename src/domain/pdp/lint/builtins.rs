//! OPA's built-ins: which of them the gateway runs, what those take, and why it does not run the rest.
//!
//! Promises: every built-in of OPA 1.x has its place in one of the tables; what is not run has a
//! remedy. A signature has one word per argument, then `>` and the result; each letter is a type that
//! may stand there, as [`Kinds::letter`] reads it. Tables only. Called by the rest of `pdp::lint`, and
//! for `policies/schema/capabilities.json`.

use crate::domain::pdp::lint::types::kinds::Kinds;

/// What the gateway runs, and what it takes: what OPA's own type checker lets through. `x` stands for
/// anything.
pub(in crate::domain::pdp) const SIGNATURES: [(&str, &str); 102] = [
    ("abs", "n > n"),
    ("array.concat", "a a > a"),
    ("array.reverse", "a > a"),
    ("array.slice", "a n n > a"),
    ("base64.decode", "s > s"),
    ("base64.encode", "s > s"),
    ("base64.is_valid", "s > b"),
    ("base64url.decode", "s > s"),
    ("base64url.encode", "s > s"),
    ("base64url.encode_no_pad", "s > s"),
    ("bits.and", "n n > n"),
    ("bits.lsh", "n n > n"),
    ("bits.negate", "n > n"),
    ("bits.or", "n n > n"),
    ("bits.rsh", "n n > n"),
    ("bits.xor", "n n > n"),
    ("ceil", "n > n"),
    ("concat", "s ae > s"),
    ("contains", "s s > b"),
    ("count", "saoe > n"),
    ("endswith", "s s > b"),
    ("floor", "n > n"),
    ("format_int", "n n > s"),
    ("glob.match", "s za s > b"),
    ("glob.quote_meta", "s > s"),
    ("hex.decode", "s > s"),
    ("hex.encode", "s > s"),
    ("indexof", "s s > n"),
    ("indexof_n", "s s > a"),
    ("intersection", "e > e"),
    ("is_array", "x > b"),
    ("is_boolean", "x > b"),
    ("is_null", "x > b"),
    ("is_number", "x > b"),
    ("is_object", "x > b"),
    ("is_set", "x > b"),
    ("is_string", "x > b"),
    ("json.filter", "o ae > x"),
    ("json.is_valid", "s > b"),
    ("json.marshal", "x > s"),
    ("json.marshal_with_options", "x o > s"),
    ("json.remove", "o ae > x"),
    ("json.unmarshal", "s > x"),
    ("lower", "s > s"),
    ("max", "ae > x"),
    ("min", "ae > x"),
    ("net.cidr_contains", "s s > b"),
    ("net.cidr_expand", "s > e"),
    ("net.cidr_is_valid", "s > b"),
    ("numbers.range", "n n > a"),
    ("numbers.range_step", "n n n > a"),
    ("object.filter", "o aoe > x"),
    ("object.get", "o x x > x"),
    ("object.keys", "o > e"),
    ("object.remove", "o aoe > x"),
    ("object.subset", "aoe aoe > b"),
    ("object.union", "o o > o"),
    ("object.union_n", "a > o"),
    ("product", "ae > n"),
    ("regex.find_all_string_submatch_n", "s s n > a"),
    ("regex.find_n", "s s n > a"),
    ("regex.is_valid", "s > b"),
    ("regex.match", "s s > b"),
    ("regex.replace", "s s s > s"),
    ("regex.split", "s s > a"),
    ("regex.template_match", "s s s s > b"),
    ("replace", "s s s > s"),
    ("round", "n > n"),
    ("semver.compare", "s s > n"),
    ("semver.is_valid", "x > b"),
    ("sort", "ae > a"),
    ("split", "s s > a"),
    ("sprintf", "s a > s"),
    ("startswith", "s s > b"),
    ("strings.any_prefix_match", "sae sae > b"),
    ("strings.any_suffix_match", "sae sae > b"),
    ("strings.replace_n", "o s > s"),
    ("strings.reverse", "s > s"),
    ("substring", "s n n > s"),
    ("sum", "ae > n"),
    ("time.add_date", "n n n n > n"),
    ("time.clock", "na > a"),
    ("time.date", "na > a"),
    ("time.diff", "na na > a"),
    ("time.format", "na > s"),
    ("time.parse_duration_ns", "s > n"),
    ("time.parse_ns", "s s > n"),
    ("time.parse_rfc3339_ns", "s > n"),
    ("time.weekday", "na > s"),
    ("to_number", "znbs > n"),
    ("trace", "s > b"),
    ("trim", "s s > s"),
    ("trim_left", "s s > s"),
    ("trim_prefix", "s s > s"),
    ("trim_right", "s s > s"),
    ("trim_space", "s > s"),
    ("trim_suffix", "s s > s"),
    ("type_name", "x > s"),
    ("union", "e > e"),
    ("units.parse", "s > n"),
    ("units.parse_bytes", "s > n"),
    ("upper", "s > s"),
];

/// Operators, as OPA names the functions behind them.
pub(in crate::domain::pdp) const OPERATORS: [(&str, &str, &str); 17] = [
    ("and", "&", "e e > e"),
    ("assign", ":=", "x x > b"),
    ("div", "/", "n n > n"),
    ("eq", "=", "x x > b"),
    ("equal", "==", "x x > b"),
    ("gt", ">", "x x > b"),
    ("gte", ">=", "x x > b"),
    ("internal.member_2", "in", "x x > b"),
    ("internal.member_3", "in", "x x x > b"),
    ("lt", "<", "x x > b"),
    ("lte", "<=", "x x > b"),
    ("minus", "-", "ne ne > ne"),
    ("mul", "*", "n n > n"),
    ("neq", "!=", "x x > b"),
    ("or", "|", "e e > e"),
    ("plus", "+", "n n > n"),
    ("rem", "%", "n n > n"),
];

/// Built-ins that would make one input give two decisions, or reach out; with what to use instead.
const IMPURE: [(&str, &str); 6] = [
    ("http.send", "keep what the policy must know in `data/`, where a replay finds it too"),
    ("net.lookup_ip_addr", "keep the addresses in `data/`, where a replay finds them too"),
    ("opa.runtime", "keep settings in `data/`"),
    ("rand.intn", "let a field of `input` choose, such as `input.caller.user`"),
    ("time.now_ns", "the time is `input.context.now_ms`, in milliseconds"),
    ("uuid.rfc4122", "the gateway names each call itself; its id is in the audit"),
];

/// Families of built-ins that are not run: how their names start, why, and what to use instead.
const FAMILIES: [(&str, &str, &str); 19] = [
    ("io.jwt.", "tokens are verified before policy is asked", "use `input.caller`"),
    ("crypto.x509.", "certificates are checked before policy is asked", "use `input.caller`"),
    ("crypto.", "secrets and digests are the gateway's work", "compare ids and names; keep no secrets in policy"),
    ("graphql.", "no tool speaks GraphQL", "use `input.tool` and `input.arguments`"),
    ("http.", "policy never calls out", "keep what it must know in `data/`"),
    ("providers.aws.", "policy never signs requests", "let the backend do it"),
    (
        "net.",
        "it is not among the functions on networks that the engine has",
        "use `net.cidr_contains(network, address)`",
    ),
    ("graph.", "a walk over a graph has no bound", "write the steps out as rules, or keep the closure in `data/`"),
    (
        "walk",
        "a walk over a whole document has no bound",
        "name the fields, or go over them with `some key, value in object`",
    ),
    ("rego.", "policies do not look at policies", "keep in `data/` what rules must know of themselves"),
    ("json.match_schema", "arguments were checked against the tool's schema before policy is asked", "rely on it"),
    ("json.verify_schema", "schemas are checked when the catalog is loaded", "rely on it"),
    ("json.patch", "the engine lacks it", "use `object.union` and `object.remove`"),
    ("yaml.", "what arrives is JSON", "keep YAML in `data/`, which is read when the bundle is loaded"),
    ("internal.", "it is OPA's own, for what its compiler makes", "write what it is made of"),
    ("test.", "it is OPA's own, for the tests of OPA", "decide without waiting"),
    ("uri.", "routes and ids are told apart before policy is asked", "use `input.tool` and `input.arguments`"),
    ("urlquery.", "tools take arguments and no query strings", "use `input.arguments`"),
    ("uuid.", "the engine lacks it", "compare ids as text, or `regex.match` them"),
];

/// Built-ins of OPA 1.x that are not run and not impure.
const UNSUPPORTED: [&str; 81] = [
    "all",
    "any",
    "array.flatten",
    "cast_array",
    "cast_boolean",
    "cast_null",
    "cast_object",
    "cast_set",
    "cast_string",
    "crypto.hmac.equal",
    "crypto.hmac.md5",
    "crypto.hmac.sha1",
    "crypto.hmac.sha256",
    "crypto.hmac.sha512",
    "crypto.md5",
    "crypto.parse_private_keys",
    "crypto.sha1",
    "crypto.sha256",
    "crypto.x509.parse_and_verify_certificates",
    "crypto.x509.parse_and_verify_certificates_with_options",
    "crypto.x509.parse_certificate_request",
    "crypto.x509.parse_certificates",
    "crypto.x509.parse_keypair",
    "crypto.x509.parse_rsa_private_key",
    "graph.reachable",
    "graph.reachable_paths",
    "graphql.is_valid",
    "graphql.parse",
    "graphql.parse_and_verify",
    "graphql.parse_query",
    "graphql.parse_schema",
    "graphql.schema_is_valid",
    "io.jwt.decode",
    "io.jwt.decode_verify",
    "io.jwt.encode_sign",
    "io.jwt.encode_sign_raw",
    "io.jwt.verify_eddsa",
    "io.jwt.verify_es256",
    "io.jwt.verify_es384",
    "io.jwt.verify_es512",
    "io.jwt.verify_hs256",
    "io.jwt.verify_hs384",
    "io.jwt.verify_hs512",
    "io.jwt.verify_ps256",
    "io.jwt.verify_ps384",
    "io.jwt.verify_ps512",
    "io.jwt.verify_rs256",
    "io.jwt.verify_rs384",
    "io.jwt.verify_rs512",
    "json.match_schema",
    "json.patch",
    "json.verify_schema",
    "net.cidr_contains_matches",
    "net.cidr_intersects",
    "net.cidr_merge",
    "net.cidr_overlap",
    "providers.aws.sign_req",
    "re_match",
    "regex.globs_match",
    "rego.metadata.chain",
    "rego.metadata.rule",
    "rego.parse_module",
    "set_diff",
    "strings.count",
    "strings.render_template",
    "strings.split_n",
    "test.sleep",
    "uri.is_valid",
    "uri.parse",
    "urlquery.decode",
    "urlquery.decode_object",
    "urlquery.encode",
    "urlquery.encode_object",
    "uuid.parse",
    "walk",
    "yaml.is_valid",
    "yaml.marshal",
    "yaml.unmarshal",
    "internal.print",
    "internal.template_string",
    "internal.test_case",
];

/// What a built-in that is run takes and gives.
#[derive(Debug, Clone)]
pub(in crate::domain::pdp) struct Signature {
    pub(in crate::domain::pdp) takes: Vec<Kinds>,
    pub(in crate::domain::pdp) gives: Kinds,
}

/// What the built-in `name` takes and gives, if it is run.
pub(super) fn signature(name: &str) -> Option<Signature> {
    let at = SIGNATURES.binary_search_by_key(&name, |(name, _)| name).ok()?;
    SIGNATURES.get(at).map(|(_, words)| read(words))
}

/// What to use instead of an impure built-in.
pub(super) fn impure(name: &str) -> Option<&'static str> {
    IMPURE.iter().find(|(other, _)| *other == name).map(|(_, instead)| *instead)
}

/// Why a built-in of OPA is not run, and what to use instead.
pub(super) fn unsupported(name: &str) -> Option<(&'static str, &'static str)> {
    UNSUPPORTED.contains(&name).then(|| {
        let family = FAMILIES.iter().find(|(start, ..)| name.starts_with(start));
        family.map_or_else(|| alone(name), |(_, why, instead)| (*why, *instead))
    })
}

/// Built-ins of no family.
fn alone(name: &str) -> (&'static str, &'static str) {
    let lacks = "the engine lacks it";
    match name {
        "all" => (lacks, "use `every item in list { … }`"),
        "any" => (lacks, "use `true in list`"),
        "array.flatten" => (lacks, "use a comprehension with two `some … in`"),
        "re_match" => (lacks, "use `regex.match`"),
        "set_diff" => (lacks, "use `set - other`"),
        "regex.globs_match" => (lacks, "use `glob.match`"),
        // It also panics on empty text.
        "strings.count" => ("the engine counts what overlaps twice", "use `count(split(text, part)) - 1`"),
        "strings.render_template" => (lacks, "use `sprintf`"),
        "strings.split_n" => (lacks, "use `split`"),
        _ => (lacks, "test the type with `is_string` and its like"),
    }
}

/// The signature that `words` say.
pub(in crate::domain::pdp) fn read(words: &str) -> Signature {
    let kinds = |word: &str| word.chars().map(Kinds::letter).fold(Kinds::NONE, Kinds::or);
    let (takes, gives) = words.split_once('>').unwrap_or((words, "x"));
    Signature { takes: takes.split_whitespace().map(kinds).collect(), gives: kinds(gives.trim()) }
}

#[cfg(test)]
mod tests {
    use regorus::unstable::BUILTINS;

    use super::*;

    #[test]
    fn every_function_of_the_engine_is_run_impure_or_its_own() {
        let mut names: Vec<_> = BUILTINS.keys().copied().collect();
        names.retain(|name| !name.starts_with("__") && impure(name).is_none() && unsupported(name).is_none());
        names.sort_unstable();
        let tables: Vec<_> = SIGNATURES.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, tables);
        for name in names {
            let takes = signature(name).unwrap().takes.len();
            assert_eq!(takes, usize::from(BUILTINS[name].1), "{name}");
        }
    }

    #[test]
    fn what_is_not_run_stands_in_no_other_table_and_has_a_remedy() {
        let mut names = UNSUPPORTED.to_vec();
        names.dedup();
        assert_eq!(names.len(), UNSUPPORTED.len());
        for name in UNSUPPORTED {
            assert!(signature(name).is_none() && impure(name).is_none(), "{name}");
            let (why, instead) = unsupported(name).unwrap();
            assert!(!why.is_empty() && !instead.is_empty(), "{name}");
        }
        assert!(unsupported("io.jwt.decode").unwrap().1.contains("input.caller"));
        assert!(unsupported("crypto.x509.parse_keypair").unwrap().0.contains("certificates"));
        assert!(unsupported("nothing.like_it").is_none());
    }

    #[test]
    fn a_signature_reads_as_it_is_written() {
        let read = signature("concat").unwrap();
        assert_eq!(read.takes, [Kinds::STRING, Kinds::ARRAY.or(Kinds::SET)]);
        assert_eq!(read.gives, Kinds::STRING);
        assert_eq!(signature("object.get").unwrap().takes.last(), Some(&Kinds::ANY));
    }
}
