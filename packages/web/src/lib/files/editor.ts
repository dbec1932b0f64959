import { defaultKeymap, history, historyKeymap, indentWithTab } from "@codemirror/commands";
import {
  bracketMatching,
  HighlightStyle,
  indentOnInput,
  type LanguageSupport,
  StreamLanguage,
  type StreamParser,
  syntaxHighlighting,
} from "@codemirror/language";
import { highlightSelectionMatches, openSearchPanel, search, searchKeymap } from "@codemirror/search";
import { Compartment, EditorState, type Extension } from "@codemirror/state";
import { drawSelection, EditorView, highlightActiveLine, keymap, lineNumbers } from "@codemirror/view";
import { tags } from "@lezer/highlight";

type Load = () => Promise<LanguageSupport | Extension>;

const legacy =
  (load: () => Promise<StreamParser<unknown>>): Load =>
  async () =>
    StreamLanguage.define(await load());
const javascript =
  (options: { jsx?: boolean; typescript?: boolean }): Load =>
  async () =>
    (await import("@codemirror/lang-javascript")).javascript(options);
const shell = legacy(async () => (await import("@codemirror/legacy-modes/mode/shell")).shell);
const cLike = (name: "c" | "cpp" | "java" | "csharp" | "kotlin" | "scala"): Load =>
  legacy(async () => (await import("@codemirror/legacy-modes/mode/clike"))[name]);
const yaml: Load = async () => (await import("@codemirror/lang-yaml")).yaml();
const css: Load = async () => (await import("@codemirror/lang-css")).css();

/** Languages by extension, each loaded when a file of it is opened. */
const languages: Record<string, Load> = {
  js: javascript({ jsx: true }),
  mjs: javascript({}),
  cjs: javascript({}),
  jsx: javascript({ jsx: true }),
  ts: javascript({ typescript: true }),
  tsx: javascript({ jsx: true, typescript: true }),
  json: async () => (await import("@codemirror/lang-json")).json(),
  py: async () => (await import("@codemirror/lang-python")).python(),
  html: async () => (await import("@codemirror/lang-html")).html(),
  svelte: async () => (await import("@codemirror/lang-html")).html(),
  css,
  scss: css,
  md: async () => (await import("@codemirror/lang-markdown")).markdown(),
  rs: async () => (await import("@codemirror/lang-rust")).rust(),
  go: async () => (await import("@codemirror/lang-go")).go(),
  yml: yaml,
  yaml,
  sh: shell,
  bash: shell,
  bashrc: shell,
  profile: shell,
  toml: legacy(async () => (await import("@codemirror/legacy-modes/mode/toml")).toml),
  rb: legacy(async () => (await import("@codemirror/legacy-modes/mode/ruby")).ruby),
  lua: legacy(async () => (await import("@codemirror/legacy-modes/mode/lua")).lua),
  sql: legacy(async () => (await import("@codemirror/legacy-modes/mode/sql")).standardSQL),
  dockerfile: legacy(async () => (await import("@codemirror/legacy-modes/mode/dockerfile")).dockerFile),
  c: cLike("c"),
  h: cLike("c"),
  cc: cLike("cpp"),
  cpp: cLike("cpp"),
  hpp: cLike("cpp"),
  java: cLike("java"),
  kt: cLike("kotlin"),
  conf: legacy(async () => (await import("@codemirror/legacy-modes/mode/properties")).properties),
  ini: legacy(async () => (await import("@codemirror/legacy-modes/mode/properties")).properties),
};

const colors = HighlightStyle.define([
  { tag: [tags.keyword, tags.operatorKeyword, tags.modifier], color: "var(--accent)" },
  { tag: [tags.string, tags.regexp, tags.special(tags.string)], color: "var(--moss)" },
  { tag: [tags.number, tags.bool, tags.null, tags.atom], color: "var(--ochre)" },
  { tag: [tags.comment, tags.meta], color: "var(--ink-soft)", fontStyle: "italic" },
  { tag: [tags.function(tags.variableName), tags.propertyName, tags.attributeName], color: "var(--slate)" },
  { tag: [tags.typeName, tags.className, tags.tagName, tags.namespace], color: "var(--slate)", fontWeight: "600" },
  { tag: tags.heading, fontWeight: "600", color: "var(--accent)" },
  { tag: tags.link, textDecoration: "underline" },
  { tag: tags.invalid, color: "var(--brick)" },
]);

const look = EditorView.theme({
  "&": { height: "100%", backgroundColor: "transparent", color: "var(--ink)", fontSize: "13px" },
  ".cm-scroller": { fontFamily: "var(--font-mono, 'IBM Plex Mono'), monospace", lineHeight: "1.55" },
  ".cm-gutters": { backgroundColor: "transparent", color: "var(--ink-soft)", border: "none" },
  ".cm-activeLine, .cm-activeLineGutter": { backgroundColor: "var(--sunk)" },
  ".cm-cursor": { borderLeftColor: "var(--accent)", borderLeftWidth: "2px" },
  "&.cm-focused": { outline: "none" },
  "&.cm-focused > .cm-scroller > .cm-selectionLayer .cm-selectionBackground, .cm-selectionBackground": {
    backgroundColor: "var(--accent-wash)",
  },
  ".cm-panels": { backgroundColor: "var(--sunk)", color: "var(--ink)", borderColor: "var(--line)" },
  ".cm-searchMatch": { backgroundColor: "var(--accent-wash)", outline: "1px solid var(--accent)" },
});

/** What an editor tells. */
export type EditorEvents = { change(): void; save(): void };

/** An editor in `parent` with the text of the file of this name. */
export function openEditor(parent: HTMLElement, file: { name: string; text: string }, events: EditorEvents) {
  const language = new Compartment();
  const view = new EditorView({
    parent,
    state: EditorState.create({
      doc: file.text,
      extensions: [
        lineNumbers(),
        history(),
        drawSelection(),
        indentOnInput(),
        bracketMatching(),
        highlightActiveLine(),
        highlightSelectionMatches(),
        search({ top: true }),
        syntaxHighlighting(colors),
        EditorView.contentAttributes.of({ "aria-label": `Text of ${file.name}` }),
        EditorView.updateListener.of((update) => update.docChanged && events.change()),
        keymap.of([
          { key: "Mod-s", preventDefault: true, run: () => (events.save(), true) },
          ...defaultKeymap,
          ...historyKeymap,
          ...searchKeymap,
          indentWithTab,
        ]),
        look,
        language.of([]),
      ],
    }),
  });
  const name = file.name.toLowerCase();
  const load = languages[name] ?? languages[/\.?([^.]+)$/.exec(name)?.[1] ?? ""];
  void load?.().then((support) => view.dispatch({ effects: language.reconfigure(support) }));
  return {
    text: () => view.state.doc.toString(),
    find: () => openSearchPanel(view),
    destroy: () => view.destroy(),
  };
}
