//! Where in an HTML document a piece of template output lands.

/// The state of the HTML parser between two pieces of text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Context {
    pub state: State,
    pub delim: Delim,
    pub url: UrlPart,
    pub attr: Attr,
    pub element: Element,
    /// In scripts: a slash would begin a regular expression, not divide.
    pub js_regexp: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum State {
    #[default]
    Text,
    Tag,
    AttrName,
    AfterName,
    BeforeValue,
    HtmlComment,
    /// `<title>`, `<textarea>`: text with entities, no tags.
    Rcdata,
    Attr,
    Url,
    Js,
    JsString(char),
    JsRegexp,
    JsComment(Comment),
    Css,
    CssString(char),
    CssUrl,
    CssComment,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Comment {
    Block,
    Line,
}

/// What ends the attribute value being read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Delim {
    #[default]
    None,
    Double,
    Single,
    SpaceOrTagEnd,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum UrlPart {
    #[default]
    None,
    PreQuery,
    QueryOrFragment,
    /// Branches ended in different parts: nothing can be printed safely.
    Unknown,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Attr {
    #[default]
    None,
    Script,
    ScriptType,
    Style,
    Url,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Element {
    #[default]
    None,
    Script,
    Style,
    Textarea,
    Title,
}

impl Element {
    pub fn of(name: &str) -> Element {
        match name.to_ascii_lowercase().as_str() {
            "script" => Element::Script,
            "style" => Element::Style,
            "textarea" => Element::Textarea,
            "title" => Element::Title,
            _ => Element::None,
        }
    }
    pub fn name(self) -> &'static str {
        match self {
            Element::None => "",
            Element::Script => "script",
            Element::Style => "style",
            Element::Textarea => "textarea",
            Element::Title => "title",
        }
    }
    /// The state of its content.
    pub fn content(self) -> State {
        match self {
            Element::None => State::Text,
            Element::Script => State::Js,
            Element::Style => State::Css,
            Element::Textarea | Element::Title => State::Rcdata,
        }
    }
}

impl Attr {
    /// What kind of value an attribute of this name holds.
    pub fn of(name: &str, element: Element) -> Attr {
        let name = name.to_ascii_lowercase();
        let name = name.strip_prefix("data-").unwrap_or(&name);
        if let Some((prefix, local)) = name.split_once(':') {
            return if prefix == "xmlns" { Attr::Url } else { Attr::of(local, element) };
        }
        match name {
            "type" if element == Element::Script => Attr::ScriptType,
            "style" => Attr::Style,
            "href" | "src" | "action" | "formaction" | "cite" | "background" | "codebase" | "data" | "icon"
            | "longdesc" | "manifest" | "poster" | "profile" | "usemap" | "xmlns" | "archive" | "classid"
            | "srcset" => Attr::Url,
            n if n.starts_with("on") => Attr::Script,
            n if n.contains("src") || n.contains("uri") || n.contains("url") => Attr::Url,
            _ => Attr::None,
        }
    }
    /// The state of its value.
    pub fn value(self) -> State {
        match self {
            Attr::None | Attr::ScriptType => State::Attr,
            Attr::Script => State::Js,
            Attr::Style => State::Css,
            Attr::Url => State::Url,
        }
    }
}

impl Context {
    pub fn is_comment(self) -> bool {
        matches!(self.state, State::HtmlComment | State::JsComment(_) | State::CssComment)
    }
}

/// As Go prints it in errors: `{stateURL delimDoubleQuote urlPartNone jsCtxRegexp [] attrURL elementNone <nil>}`.
impl std::fmt::Display for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = match self.state {
            State::Text => "Text",
            State::Tag => "Tag",
            State::AttrName => "AttrName",
            State::AfterName => "AfterName",
            State::BeforeValue => "BeforeValue",
            State::HtmlComment => "HTMLCmt",
            State::Rcdata => "RCDATA",
            State::Attr => "Attr",
            State::Url => "URL",
            State::Js => "JS",
            State::JsString('"') => "JSDqStr",
            State::JsString('\'') => "JSSqStr",
            State::JsString(_) => "JSTmplLit",
            State::JsRegexp => "JSRegexp",
            State::JsComment(Comment::Block) => "JSBlockCmt",
            State::JsComment(Comment::Line) => "JSLineCmt",
            State::Css => "CSS",
            State::CssString('"') => "CSSDqStr",
            State::CssString(_) => "CSSSqStr",
            State::CssUrl => "CSSURL",
            State::CssComment => "CSSBlockCmt",
        };
        let delim = match self.delim {
            Delim::None => "None",
            Delim::Double => "DoubleQuote",
            Delim::Single => "SingleQuote",
            Delim::SpaceOrTagEnd => "SpaceOrTagEnd",
        };
        let url = match self.url {
            UrlPart::None => "None",
            UrlPart::PreQuery => "PreQuery",
            UrlPart::QueryOrFragment => "QueryOrFrag",
            UrlPart::Unknown => "Unknown",
        };
        let js = if self.js_regexp || self.state != State::Js { "Regexp" } else { "DivOp" };
        let attr = match self.attr {
            Attr::Url => "URL".to_owned(),
            other => format!("{other:?}"),
        };
        write!(f, "{{state{state} delim{delim} urlPart{url} jsCtx{js} [] attr{attr} element{:?} <nil>}}", self.element)
    }
}
