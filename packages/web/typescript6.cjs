// svelte-check reads TypeScript by its JavaScript interface, which version 7 does not have: it gets version 6 from beside it.
const Module = require("node:module");
const resolve = Module._resolveFilename;
Module._resolveFilename = function (request, ...rest) {
  return resolve.call(this, request.replace(/^typescript(?=\/|$)/, "typescript6"), ...rest);
};
