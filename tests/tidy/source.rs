//! What one source says, gathered before any rule is asked.
//!
//! Names are read from the flat words of the code rather than from syn's tree, since macros hold
//! paths too; the tree gives what is spoken to the outside. It knows no rule and no other file.

use proc_macro2::{Delimiter, LexError, Spacing, TokenStream, TokenTree};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::{fs, io, path::Path};
use syn::visit::{self, Visit};

/// A word and its line.
pub(crate) type Word = (String, usize);

/// What surrounds a word, from brace to brace.
#[derive(Clone, Default)]
pub(crate) struct Scope {
    module: Vec<String>, // of the file, then of inline modules
    pub(crate) test: bool,
    functions: Vec<Word>,        // outermost first
    opens: bool,                 // whether this brace opens the last of them
    import: Option<Vec<String>>, // inside a `use`: the path so far
}

/// A path as written, one for each leaf of a `use`. A single word counts too: it may be a lock.
pub(crate) struct Name {
    pub(crate) path: Vec<String>,
    pub(crate) line: usize,
    pub(crate) imported: bool,
    pub(crate) called: bool,
    pub(crate) scope: Scope,
}

#[derive(Default)]
pub(crate) struct Source {
    pub(crate) path: String,
    pub(crate) module: Vec<String>, // `src/feed/ring.rs` is `feed`, `ring`
    pub(crate) names: Vec<Name>,
    pub(crate) types: Vec<Word>,
    pub(crate) functions: Vec<(String, usize, usize)>, // with first line and length
    pub(crate) codes: Vec<Word>, // strings in snake case, outside of attributes and tests
    pub(crate) variants: Vec<(String, bool, Word)>, // of which enum, whether serde makes the word
    pub(crate) settings: Vec<Word>, // the keys of what is read from the configuration
    pub(crate) test_modules: Vec<Vec<String>>, // other files, by `#[cfg(test)] mod name;`
    pub(crate) code_from: Option<usize>, // the first line that is neither documents nor `mod`
    aliases: HashMap<String, Vec<String>>, // what a `use` or `mod` makes a word mean
}

impl Scope {
    pub(crate) fn is_in(&self, function: &str) -> bool {
        self.functions.iter().any(|(name, _)| name == function)
    }
}

impl Name {
    /// The path from our own root, if the name is one of ours.
    pub(crate) fn own_path(&self) -> Option<Vec<String>> {
        let (mut path, rest) = match self.path[0].as_str() {
            "crate" => (vec![], &self.path[1..]),
            "tidegate" if self.imported || self.path.len() > 1 => (vec![], &self.path[1..]),
            "self" | "super" => (self.scope.module.clone(), &self.path[..]),
            _ => return None,
        };
        for word in rest {
            match word.as_str() {
                "super" => drop(path.pop()),
                "self" => {}
                _ => path.push(word.clone()),
            }
        }
        Some(path)
    }
}

impl Source {
    /// Reads a file; the error is what does not parse, and where.
    pub(crate) fn read(path: &str, text: &str) -> Result<Self, Word> {
        let lexical = |error: LexError| (error.to_string(), error.span().start().line);
        let syntactic = |error: syn::Error| (error.to_string(), error.span().start().line);
        let tokens: TokenStream = text.parse().map_err(lexical)?;
        let tree: syn::File = syn::parse2(tokens.clone()).map_err(syntactic)?;
        let stem = path.trim_start_matches("src/").trim_end_matches(".rs");
        let module = stem.trim_end_matches("/mod").split('/').map(Into::into).collect();
        let mut source = Self { path: path.into(), module, ..Self::default() };
        let mut code = vec![];
        flatten(tokens, '{', &mut code);
        source.walk(&code);
        source.visit_file(&tree);
        source.code_from = foreign_to_a_map(&tree, &code);
        Ok(source)
    }

    fn walk(&mut self, code: &[Word]) {
        let word = |at: usize| code.get(at).map_or("", |(word, _)| word.as_str());
        let test = self.module.iter().any(|name| name == "tests");
        let start = Scope { module: self.module.clone(), test, ..Scope::default() };
        let (mut next, mut around, mut at) = (start.clone(), vec![start], 0);
        while let Some((first, line)) = code.get(at) {
            at += 1;
            match (first.as_str(), word(at)) {
                ("#", "(") => {
                    let text: String = (at + 1..at + 6).map(word).collect();
                    next.test |= text.starts_with("cfg(test") || text.starts_with("cfg(all(test");
                }
                ("use", after) if after != "<" => next.import = Some(vec![]),
                ("extern", "crate") => {
                    next.import = Some(vec![]);
                    at += 1;
                }
                ("mod", name) => {
                    next.module.push(name.into());
                    self.aliases.insert(name.into(), vec!["self".into(), name.into()]);
                }
                ("struct" | "enum" | "trait" | "union", name) if is_word(name) => {
                    self.types.push((name.into(), *line));
                }
                ("fn", name) if is_word(name) => {
                    next.functions.push((name.into(), *line));
                    next.opens = true;
                    at += 1;
                }
                ("{", _) => {
                    around.push(next.clone());
                    next.opens = false;
                }
                ("}", _) => {
                    let over = around.pop().filter(|scope| scope.opens);
                    if let Some((name, start)) = over.and_then(|mut scope| scope.functions.pop()) {
                        self.functions.push((name, start, line - start + 1));
                    }
                    next = follow(&around);
                }
                (";", _) => {
                    let after = follow(&around);
                    if next.test && next.module != after.module {
                        self.test_modules.push(next.module);
                    }
                    next = after;
                }
                (name, _) if is_word(name) || name == "*" && next.import.is_some() => {
                    at = self.path(code, at - 1, &mut next);
                }
                (text, _) if text.starts_with('"') && !next.test => {
                    let text = text.trim_matches('"');
                    let snake = |sign: char| matches!(sign, 'a'..='z' | '0'..='9' | '_');
                    let is_code = is_word(text) && text.chars().all(snake);
                    self.codes.extend(is_code.then(|| (text.to_owned(), *line)));
                }
                _ => {}
            }
        }
    }

    /// Takes the path that begins at `start`, and says where it ends.
    fn path(&mut self, code: &[Word], start: usize, scope: &mut Scope) -> usize {
        let word = |at: usize| code.get(at).map_or("", |(word, _)| word.as_str());
        let mut path = scope.import.clone().unwrap_or_default();
        path.push(word(start).to_owned());
        let mut at = start + 1;
        while word(at) == "::" && (is_word(word(at + 1)) || word(at + 1) == "*") {
            path.push(word(at + 1).to_owned());
            at += 2;
        }
        path.retain(|word| word != "*");
        let imported = scope.import.is_some();
        if imported && word(at) == "::" {
            scope.import = Some(path); // a group follows
            return at;
        }
        if imported {
            let renamed = word(at) == "as";
            at += if renamed { 2 } else { 0 };
            let own = path.iter().rfind(|word| *word != "self").map_or("", String::as_str);
            let alias = if renamed { word(at - 1) } else { own };
            self.aliases.insert(alias.to_owned(), path.clone());
        }
        if !path.is_empty() {
            let (line, called, scope) = (code[start].1, word(at) == "(", scope.clone());
            self.names.push(Name { path, line, imported, called, scope });
        }
        at
    }

    /// The path from an external crate, through the `use` that its first word may come from.
    pub(crate) fn outer_path(&self, name: &Name) -> Vec<String> {
        match self.aliases.get(&name.path[0]) {
            Some(path) if path[0] != name.path[0] => [path, &name.path[1..]].concat(),
            _ => name.path.clone(),
        }
    }
}

impl<'tree> Visit<'tree> for Source {
    fn visit_item_mod(&mut self, item: &'tree syn::ItemMod) {
        if !item.attrs.iter().any(|attribute| attribute.path().is_ident("cfg")) {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_type(&mut self, item: &'tree syn::ItemType) {
        self.types.push((item.ident.to_string(), item.ident.span().start().line));
    }

    fn visit_item_enum(&mut self, item: &'tree syn::ItemEnum) {
        let by_serde = serde(&item.attrs).contains("rename_all");
        let word = |variant: &syn::Variant| wire_name(&variant.attrs, &variant.ident);
        let of = item.ident.to_string();
        self.variants.extend(item.variants.iter().map(|it| (of.clone(), by_serde, word(it))));
    }

    fn visit_item_struct(&mut self, item: &'tree syn::ItemStruct) {
        // What rooms hand to each other is no setting, whatever it is called.
        let named = item.ident.to_string().ends_with("Config") || self.module[0] == "config";
        let setting = named && derives(&item.attrs, "Deserialize");
        for field in item.fields.iter().filter(|_| setting) {
            let public = !matches!(field.vis, syn::Visibility::Inherited);
            let hidden =
                words(&serde(&field.attrs)).any(|word| word == "skip" || word == "flatten");
            let key = field.ident.iter().filter(|_| public && !hidden);
            self.settings.extend(key.map(|ident| wire_name(&field.attrs, ident)));
        }
    }
}

/// The first line of a file that is neither documents nor a `mod` line.
fn foreign_to_a_map(tree: &syn::File, code: &[Word]) -> Option<usize> {
    let rule = tree.attrs.iter().find(|attribute| !attribute.path().is_ident("doc"));
    if let Some(rule) = rule {
        return Some(rule.pound_token.span.start().line);
    }
    let is_mod = |item: &syn::Item| matches!(item, syn::Item::Mod(item) if item.content.is_none());
    let ends_as_mod = |item: &&[Word]| item.iter().rev().nth(1).is_some_and(|word| word.0 == "mod");
    let item = code.split(|(word, _)| word == ";").find(|item| !ends_as_mod(item))?;
    (!tree.items.iter().all(is_mod)).then_some(item.last()?.1)
}

/// Code as words; `;` only between items or statements, no strings of attributes.
fn flatten(tokens: TokenStream, within: char, code: &mut Vec<Word>) {
    for token in tokens {
        let line = token.span().start().line;
        let last = code.last().map_or("", |(word, _)| word);
        match token {
            TokenTree::Group(group) => {
                let braced = group.delimiter() == Delimiter::Brace;
                let (open, close) = if braced { ('{', '}') } else { ('(', ')') };
                let within = if within == '#' || last == "#" { '#' } else { open };
                code.push((open.into(), line));
                flatten(group.stream(), within, code);
                code.push((close.into(), group.span_close().end().line));
            }
            TokenTree::Punct(sign) => match (sign.as_char(), sign.spacing()) {
                (':', _) if last == "::" => {}
                (':', Spacing::Joint) => code.push(("::".into(), line)),
                (';', _) if within != '{' => {}
                (sign, _) => code.push((sign.into(), line)),
            },
            TokenTree::Ident(word) => {
                code.push((word.to_string().trim_start_matches("r#").into(), line));
            }
            TokenTree::Literal(text) if within != '#' && text.to_string().starts_with('"') => {
                code.push((text.to_string(), line));
            }
            TokenTree::Literal(_) => {}
        }
    }
}

fn follow(around: &[Scope]) -> Scope {
    Scope { opens: false, ..around.last().cloned().unwrap_or_default() }
}

fn is_word(text: &str) -> bool {
    text.starts_with(|sign: char| sign.is_alphabetic() || sign == '_')
}

/// Whether an item derives this trait.
fn derives(attributes: &[syn::Attribute], name: &str) -> bool {
    let derived = attributes.iter().filter(|attribute| attribute.path().is_ident("derive"));
    derived
        .filter_map(|attribute| attribute.meta.require_list().ok())
        .any(|list| words(&list.tokens.to_string()).any(|word| word == name))
}

/// What all the `#[serde(…)]` of an item say.
fn serde(attributes: &[syn::Attribute]) -> String {
    let ours = attributes.iter().filter(|attribute| attribute.path().is_ident("serde"));
    let lists = ours.filter_map(|attribute| attribute.meta.require_list().ok());
    lists.map(|list| format!("{},", list.tokens)).collect()
}

/// The name on the wire or in a file: as `#[serde(rename = "…")]` says, else in snake case.
fn wire_name(attributes: &[syn::Attribute], ident: &syn::Ident) -> Word {
    let mut name = String::new();
    for sign in ident.to_string().trim_start_matches("r#").chars() {
        name.extend((sign.is_uppercase() && !name.is_empty()).then_some('_'));
        name.extend(sign.to_lowercase());
    }
    let serde = serde(attributes);
    let renamed = serde.split("rename = \"").nth(1).and_then(|rest| rest.split('"').next());
    (renamed.map_or(name, str::to_owned), ident.span().start().line)
}

/// The words of any text.
pub(crate) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|sign: char| !sign.is_alphanumeric() && sign != '_')
}

/// What a document says between backticks, word by word; examples in fences explain nothing.
pub(crate) fn explained(text: &str) -> HashSet<&str> {
    let (mut said, mut fenced) = (HashSet::new(), false);
    for line in text.lines() {
        fenced ^= line.trim_start().starts_with("```");
        let spans = line.split('`').skip(1).step_by(2).filter(|_| !fenced);
        said.extend(spans.flat_map(words));
    }
    said
}

/// The texts that the rules speak of, by path: Rust in three folders, and documents.
pub(crate) fn collect(root: &Path, documents: &[&str]) -> io::Result<BTreeMap<String, String>> {
    let mut files = BTreeMap::new();
    let mut folders: Vec<String> = ["src", "tests", "benches"].map(Into::into).into();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root.join(&folder))? {
            let path = format!("{folder}/{}", entry?.file_name().to_string_lossy());
            if path.ends_with(".rs") {
                files.insert(path.clone(), fs::read_to_string(root.join(path))?);
            } else if root.join(&path).is_dir() && !path.ends_with("/target") {
                folders.push(path);
            }
        }
    }
    for document in documents {
        files.extend(
            fs::read_to_string(root.join(document)).map(|text| (document.to_string(), text)),
        );
    }
    Ok(files)
}
