"use strict";

function element(name, text, ...children) {
  const made = document.createElement(name);
  made.textContent = text;
  made.append(...children);
  return made;
}

const named = (schema) => schema?.$ref?.split("/").pop();

// The type of a schema in a few words.
function kind(schema) {
  if (!schema) return "";
  if (schema.$ref) return named(schema);
  if (schema.anyOf) return schema.anyOf.map(kind).join(" or ");
  if (schema.type === "array") return `list of ${kind(schema.items)}`;
  return schema.type ?? "";
}

const BOUNDS = {
  minimum: "at least", maximum: "at most", minItems: "at least", maxItems: "at most",
};

function bounds(schema) {
  const parts = [schema, ...(schema.anyOf ?? [])];
  return Object.entries(BOUNDS).flatMap(([name, words]) => parts
    .filter((part) => name in part)
    .map((part) => `${words} ${part[name].toLocaleString("en")}`)).join(", ");
}

function fields(schema, all, seen = new Set()) {
  const name = named(schema);
  if (!name || seen.has(name)) return [];
  seen.add(name);
  const properties = Object.entries(all[name].properties ?? {});
  const rows = properties.map(([field, part]) => element("tr", "",
    element("td", "", element("code", field)),
    element("td", kind(part)),
    element("td", [bounds(part), part.description].filter(Boolean).join(": "))));
  const inner = properties.flatMap(([, part]) =>
    [part, part.items, ...(part.anyOf ?? [])].flatMap((sub) =>
      sub ? fields(sub, all, seen) : []));
  return [element("h4", name), element("table", "", ...rows), ...inner];
}

function operation(path, method, about, all) {
  const made = element("article", "",
    element("h3", "", element("code", `${method.toUpperCase()} ${path}`)),
    element("p", about.summary ?? ""));
  const body = about.requestBody?.content["application/json"].schema;
  if (body) {
    made.append(...fields(body, all));
    const example = all[named(body)].examples?.[0];
    if (example) {
      made.append(element("pre", `curl ${location.origin}${path} \\\n`
        + `  -H 'Content-Type: application/json' \\\n  -d '${JSON.stringify(example)}'`));
    }
  }
  for (const [status, answer] of Object.entries(about.responses)) {
    made.append(element("p", "", element("strong", `${status} `), answer.description));
    const schema = answer.content?.["application/json"]?.schema;
    if (schema) made.append(...fields(schema, all));
  }
  return made;
}

fetch("/openapi.json").then((answer) => answer.json()).then((document_) => {
  const all = document_.components.schemas;
  document.getElementById("paths").append(
    ...Object.entries(document_.paths).flatMap(([path, methods]) =>
      Object.entries(methods).map(([method, about]) =>
        operation(path, method, about, all))));
});
