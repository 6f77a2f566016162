// What Lab's loader expects of a federated module: `init` with the packages that the page shares, `get` for a module.
// The plugin's own code stands in the place of the call to BUNDLE, NAMES are the packages that it takes from the page.
(() => {
  let shared;
  const newest = versions => {
    const order = (a, b) => a.localeCompare(b, 'en', { numeric: true });
    return versions[Object.keys(versions).sort(order).at(-1)];
  };
  window._JUPYTERLAB ??= {};
  window._JUPYTERLAB['nb-jupyter-outputs'] = {
    init(scope) {
      shared = scope;
    },
    async get() {
      const packages = {};
      for (const name of NAMES) {
        if (!shared?.[name]) throw new Error(`nb-jupyter-outputs: this page has no ${name}`);
        packages[name] = (await newest(shared[name]).get())();
      }
      const module = { exports: {} };
      const require = name => packages[name];
      BUNDLE(require, module);
      return () => module.exports;
    }
  };
})();
