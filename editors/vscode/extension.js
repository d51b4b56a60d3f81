// Starts `switchroom lsp` for routing scripts. All that it knows is in the program.
const { workspace } = require("vscode");
const { LanguageClient } = require("vscode-languageclient/node");

let client;

exports.activate = () => {
  const command = workspace.getConfiguration("switchroom").get("path") || "switchroom";
  client = new LanguageClient(
    "switchroom",
    "Switchroom",
    { command, args: ["lsp"] },
    { documentSelector: [{ language: "opensips" }] },
  );
  return client.start();
};

exports.deactivate = () => (client ? client.stop() : undefined);
