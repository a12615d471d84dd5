//! Where a source file can be made wrong, and how: the operators of mutation testing.

use std::ops::Range;

use proc_macro2::{LineColumn, Span};
use quote::ToTokens;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

/// One fault: `range` of the file's bytes becomes `with`, in which `FAULT` stands for the question
/// whether this fault is switched on.
#[derive(Clone, Debug)]
pub struct Site {
    pub range: Range<usize>,
    pub with: String,
    /// What it does, such as `a + b becomes a - b`.
    pub says: String,
    pub line: usize,
}

/// Every fault that can be put into `source`, tests and constants left out.
pub fn find(source: &str) -> Vec<Site> {
    let Ok(file) = syn::parse_file(source) else { return Vec::new() };
    let mut finder = Finder { source, lines: line_starts(source), sites: Vec::new() };
    finder.visit_file(&file);
    finder.sites
}

fn line_starts(source: &str) -> Vec<usize> {
    std::iter::once(0).chain(source.match_indices('\n').map(|(at, _)| at + 1)).collect()
}

struct Finder<'a> {
    source: &'a str,
    lines: Vec<usize>,
    sites: Vec<Site>,
}

impl Finder<'_> {
    fn offset(&self, at: LineColumn) -> usize {
        let line = &self.source[self.lines[at.line - 1]..];
        let inside: usize = line.chars().take(at.column).map(char::len_utf8).sum();
        self.lines[at.line - 1] + inside
    }

    fn range(&self, span: Span) -> Range<usize> {
        self.offset(span.start())..self.offset(span.end())
    }

    fn text(&self, node: &impl Spanned) -> &str {
        &self.source[self.range(node.span())]
    }

    /// `node` becomes `wrong` where the fault is switched on.
    fn replace(&mut self, node: &impl Spanned, wrong: &str) {
        let right = self.text(node).to_owned();
        let with = format!("(if FAULT {{ {wrong} }} else {{ {right} }})");
        self.push(self.range(node.span()), with, format!("{right} becomes {wrong}"));
    }

    fn push(&mut self, range: Range<usize>, with: String, says: String) {
        let line = self.lines.partition_point(|&start| start <= range.start);
        let says = says.split_whitespace().collect::<Vec<_>>().join(" ");
        let says = says.chars().take(160).collect();
        self.sites.push(Site { range, with, says, line });
    }

    /// The statement is left out.
    fn leave_out(&mut self, statement: &impl Spanned) {
        let text = self.text(statement).to_owned();
        let with = format!(
            "if !FAULT {{ {} }}",
            if text.ends_with(';') { text.clone() } else { text.clone() + ";" }
        );
        self.push(self.range(statement.span()), with, format!("left out: {text}"));
    }

    fn body(&mut self, signature: &syn::Signature, block: &syn::Block) {
        if signature.constness.is_some() || signature.asyncness.is_some() || block.stmts.is_empty()
        {
            return;
        }
        let at = self.offset(block.brace_token.span.open().end());
        let whole = self.text(block).trim_matches(['{', '}']).trim().to_owned();
        for value in defaults(&signature.output).iter().filter(|it| **it != whole) {
            let with = format!(" if FAULT {{ return {value}; }} ");
            let says = format!(
                "{} returns {}",
                signature.ident,
                if value.is_empty() { "at once" } else { value }
            );
            self.push(at..at, with, says);
        }
    }
}

/// What a function could return without doing anything.
fn defaults(output: &syn::ReturnType) -> &'static [&'static str] {
    let syn::ReturnType::Type(_, kind) = output else { return &[""] };
    let text: String = kind.to_token_stream().to_string().split_whitespace().collect();
    match text.as_str() {
        "bool" => &["true", "false"],
        "f64" | "f32" => &["0.0", "1.0"],
        "usize" | "u64" | "u32" | "i64" => &["0", "1"],
        "String" => &["String::new()"],
        "Result<()>" => &["Ok(())"],
        "Result<bool>" => &["Ok(true)", "Ok(false)"],
        "Result<String>" => &["Ok(String::new())"],
        "Result<f64>" => &["Ok(0.0)"],
        "Result<usize>" => &["Ok(0)", "Ok(1)"],
        _ if text.starts_with("Vec<") => &["Vec::new()"],
        _ if text.starts_with("Option<") => &["None"],
        _ if text.starts_with("Result<Vec<") => &["Ok(Vec::new())"],
        _ if text.starts_with("Result<Option<") => &["Ok(None)"],
        _ => &[],
    }
}

fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|it| {
        let text = it.to_token_stream().to_string();
        text.contains("test") || text.contains("not (feature")
    })
}

impl<'ast> Visit<'ast> for Finder<'_> {
    fn visit_item_mod(&mut self, node: &'ast syn::ItemMod) {
        if !is_test(&node.attrs) {
            visit::visit_item_mod(self, node);
        }
    }

    fn visit_item_fn(&mut self, node: &'ast syn::ItemFn) {
        if !is_test(&node.attrs) && node.sig.constness.is_none() {
            self.body(&node.sig, &node.block);
            visit::visit_block(self, &node.block);
        }
    }

    fn visit_impl_item_fn(&mut self, node: &'ast syn::ImplItemFn) {
        if !is_test(&node.attrs) && node.sig.constness.is_none() {
            self.body(&node.sig, &node.block);
            visit::visit_block(self, &node.block);
        }
    }

    // Nothing is switched in constants, types, patterns and attributes.
    fn visit_item_const(&mut self, _: &'ast syn::ItemConst) {}
    fn visit_item_static(&mut self, _: &'ast syn::ItemStatic) {}
    fn visit_impl_item_const(&mut self, _: &'ast syn::ImplItemConst) {}
    fn visit_item_enum(&mut self, _: &'ast syn::ItemEnum) {}
    fn visit_type(&mut self, _: &'ast syn::Type) {}
    fn visit_pat(&mut self, _: &'ast syn::Pat) {}
    fn visit_attribute(&mut self, _: &'ast syn::Attribute) {}
    fn visit_expr_const(&mut self, _: &'ast syn::ExprConst) {}
    fn visit_generic_argument(&mut self, _: &'ast syn::GenericArgument) {}

    fn visit_expr_repeat(&mut self, node: &'ast syn::ExprRepeat) {
        self.visit_expr(&node.expr); // the length is a constant
    }

    fn visit_stmt(&mut self, node: &'ast syn::Stmt) {
        use syn::Expr;
        if let syn::Stmt::Expr(expression, Some(_)) = node {
            let is_effect = match expression {
                Expr::Try(it) => matches!(*it.expr, Expr::Call(_) | Expr::MethodCall(_)),
                Expr::Call(_) | Expr::MethodCall(_) | Expr::Assign(_) => true,
                _ => false,
            };
            if is_effect {
                self.leave_out(node);
            }
        }
        visit::visit_stmt(self, node);
    }

    fn visit_expr_binary(&mut self, node: &'ast syn::ExprBinary) {
        use syn::BinOp::*;
        let wrong: &[&str] = match node.op {
            Add(_) => &["-"],
            Sub(_) => &["+"],
            Mul(_) => &["/"],
            Div(_) => &["*"],
            Rem(_) => &["/"],
            And(_) => &["||"],
            Or(_) => &["&&"],
            Eq(_) => &["!="],
            Ne(_) => &["=="],
            Lt(_) => &["<=", ">"],
            Le(_) => &["<", ">"],
            Gt(_) => &[">=", "<"],
            Ge(_) => &[">", "<"],
            AddAssign(_) => &["-="],
            SubAssign(_) => &["+="],
            MulAssign(_) => &["/="],
            DivAssign(_) => &["*="],
            _ => &[],
        };
        let has_let = |it: &syn::Expr| it.to_token_stream().to_string().contains("let ");
        if !has_let(&node.left) && !has_let(&node.right) {
            let (left, right) =
                (self.text(&node.left).to_owned(), self.text(&node.right).to_owned());
            for wrong in wrong {
                self.replace(node, &format!("{left} {wrong} {right}"));
            }
        }
        visit::visit_expr_binary(self, node);
    }

    fn visit_expr_unary(&mut self, node: &'ast syn::ExprUnary) {
        if matches!(node.op, syn::UnOp::Neg(_) | syn::UnOp::Not(_)) {
            self.replace(node, &self.text(&node.expr).to_owned());
        }
        visit::visit_expr_unary(self, node);
    }

    fn visit_expr_if(&mut self, node: &'ast syn::ExprIf) {
        let condition = self.text(&node.cond).to_owned();
        if !matches!(*node.cond, syn::Expr::Let(_))
            && !node.cond.to_token_stream().to_string().contains("let ")
        {
            self.replace(&node.cond, "false");
            self.replace(&node.cond, &format!("!({condition})"));
        }
        visit::visit_expr_if(self, node);
    }

    fn visit_expr_method_call(&mut self, node: &'ast syn::ExprMethodCall) {
        let name = node.method.to_string();
        let other = match name.as_str() {
            "min" => "max",
            "max" => "min",
            "any" => "all",
            "all" => "any",
            "first" => "last",
            "last" => "first",
            "is_some" => "is_none",
            "is_none" => "is_some",
            "min_by" => "max_by",
            "max_by" => "min_by",
            "floor" => "ceil",
            "ceil" => "floor",
            "exp" => "abs",
            "ln" => "abs",
            "sqrt" => "abs",
            "starts_with" => "ends_with",
            "mean" => "sum",
            "keys" => "",
            _ => "",
        };
        let receiver = self.text(&node.receiver).to_owned();
        if !other.is_empty() {
            let arguments = self.text_between(node);
            self.replace(node, &format!("{receiver}.{other}{arguments}"));
        }
        if matches!(name.as_str(), "abs" | "clamp" | "trim" | "clone_from") {
            self.replace(node, &receiver);
        }
        if matches!(name.as_str(), "is_empty" | "contains" | "contains_key") {
            let text = self.text(node).to_owned();
            self.replace(node, &format!("!{text}"));
        }
        if matches!(name.as_str(), "skip" | "take" | "chunks" | "nth") && node.args.len() == 1 {
            let argument = self.text(&node.args[0]).to_owned();
            self.replace(node, &format!("{receiver}.{name}({argument} + 1)"));
        }
        self.swap_arguments(node, &node.args);
        visit::visit_expr_method_call(self, node);
    }

    fn visit_expr_call(&mut self, node: &'ast syn::ExprCall) {
        self.swap_arguments(node, &node.args);
        visit::visit_expr_call(self, node);
    }

    fn visit_expr_struct(&mut self, node: &'ast syn::ExprStruct) {
        let range = self.range(node.span());
        for (a, b) in node.fields.iter().zip(node.fields.iter().skip(1)) {
            let mut text = self.source[range.clone()].to_owned();
            let (at_a, at_b) = (self.range(a.span()), self.range(b.span()));
            let value = |it: &syn::FieldValue| self.text(&it.expr).to_owned();
            let name = |it: &syn::FieldValue| it.member.to_token_stream().to_string();
            let swapped = |it, other| format!("{}: {}", name(it), value(other));
            text.replace_range(at_b.start - range.start..at_b.end - range.start, &swapped(b, a));
            text.replace_range(at_a.start - range.start..at_a.end - range.start, &swapped(a, b));
            let right = self.source[range.clone()].to_owned();
            let with = format!("(if FAULT {{ {text} }} else {{ {right} }})");
            self.push(
                range.clone(),
                with,
                format!("fields {} and {} change places", name(a), name(b)),
            );
        }
        visit::visit_expr_struct(self, node);
    }

    fn visit_expr_lit(&mut self, node: &'ast syn::ExprLit) {
        match &node.lit {
            syn::Lit::Int(it) => {
                let suffix = it.suffix();
                if let Ok(value) = it.base10_parse::<u64>() {
                    self.replace(node, &format!("{}{suffix}", value + 1));
                }
            }
            syn::Lit::Float(it) => {
                let suffix = it.suffix();
                if let Ok(value) = it.base10_parse::<f64>() {
                    let wrong = if value == 0.0 { 1.0 } else { 2.0 * value };
                    self.replace(node, &format!("{wrong:?}{suffix}"));
                }
            }
            syn::Lit::Bool(it) => self.replace(node, if it.value { "false" } else { "true" }),
            _ => {}
        }
    }
}

impl Finder<'_> {
    /// Dots, generic arguments and arguments of a call left out, from its opening bracket on.
    fn text_between(&self, node: &syn::ExprMethodCall) -> String {
        let open = self.offset(node.paren_token.span.open().start());
        self.source[open..self.range(node.span()).end].to_owned()
    }

    /// Two neighbouring arguments change places.
    fn swap_arguments<P>(
        &mut self,
        node: &impl Spanned,
        arguments: &syn::punctuated::Punctuated<syn::Expr, P>,
    ) {
        let range = self.range(node.span());
        for (a, b) in arguments.iter().zip(arguments.iter().skip(1)) {
            let (text_a, text_b) = (self.text(a).to_owned(), self.text(b).to_owned());
            if text_a == text_b
                || matches!(a, syn::Expr::Closure(_))
                || matches!(b, syn::Expr::Closure(_))
            {
                continue;
            }
            let (at_a, at_b) = (self.range(a.span()), self.range(b.span()));
            let right = self.source[range.clone()].to_owned();
            let mut text = right.clone();
            text.replace_range(at_b.start - range.start..at_b.end - range.start, &text_a);
            text.replace_range(at_a.start - range.start..at_a.end - range.start, &text_b);
            let with = format!("(if FAULT {{ {text} }} else {{ {right} }})");
            self.push(
                range.clone(),
                with,
                format!("{text_a} and {text_b} change places in {right}"),
            );
        }
    }
}
