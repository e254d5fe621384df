// Compiles with the solc of node_modules: standard JSON on stdin without the sources' text, standard JSON on stdout.
// The sources and what they import are read from node_modules, by the recipe's remappings.
const fs = require("node:fs");
const path = require("node:path");
const solc = require(path.resolve("node_modules/solc"));

const find = (file) => {
  try {
    return { contents: fs.readFileSync(path.join("node_modules", file), "utf8") };
  } catch (error) {
    return { error: String(error) };
  }
};

const input = JSON.parse(fs.readFileSync(0, "utf8"));
for (const file of Object.keys(input.sources)) {
  const found = find(file);
  if (found.error) throw new Error(found.error);
  input.sources[file] = { content: found.contents };
}
process.stdout.write(solc.compile(JSON.stringify(input), { import: find }));
