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
      for (const name of ["@jupyterlab/coreutils","@jupyterlab/docmanager","@jupyterlab/notebook","@jupyterlab/services","@lumino/coreutils"]) {
        if (!shared?.[name]) throw new Error(`nb-jupyter-outputs: this page has no ${name}`);
        packages[name] = (await newest(shared[name]).get())();
      }
      const module = { exports: {} };
      const require = name => packages[name];
      (function (require, module) {
"use strict";
var __defProp = Object.defineProperty;
var __getOwnPropDesc = Object.getOwnPropertyDescriptor;
var __getOwnPropNames = Object.getOwnPropertyNames;
var __hasOwnProp = Object.prototype.hasOwnProperty;
var __export = (target, all) => {
  for (var name in all)
    __defProp(target, name, { get: all[name], enumerable: true });
};
var __copyProps = (to, from, except, desc) => {
  if (from && typeof from === "object" || typeof from === "function") {
    for (let key of __getOwnPropNames(from))
      if (!__hasOwnProp.call(to, key) && key !== except)
        __defProp(to, key, { get: () => from[key], enumerable: !(desc = __getOwnPropDesc(from, key)) || desc.enumerable });
  }
  return to;
};
var __toCommonJS = (mod) => __copyProps(__defProp({}, "__esModule", { value: true }), mod);

// src/index.ts
var index_exports = {};
__export(index_exports, {
  default: () => index_default
});
module.exports = __toCommonJS(index_exports);
var import_coreutils4 = require("@jupyterlab/coreutils");
var import_docmanager = require("@jupyterlab/docmanager");
var import_notebook = require("@jupyterlab/notebook");

// src/line.ts
var import_coreutils = require("@jupyterlab/coreutils");
var import_services = require("@jupyterlab/services");
var SILENT_MS = 15e3;
var ANSWER_WITHIN_MS = 1e4;
function watchLine(kernel) {
  let heard = false;
  let isAsking = false;
  const hears = () => {
    heard = true;
  };
  const look = async () => {
    const isSilent = !heard;
    heard = false;
    if (!isSilent || isAsking || kernel.isDisposed) return;
    isAsking = true;
    try {
      if (await isGone(kernel) && !heard && !kernel.isDisposed) await kernel.reconnect();
    } catch (error) {
      console.debug("nb: the server cannot be asked for its connection", error);
    } finally {
      isAsking = false;
    }
  };
  const timer = setInterval(() => void look(), SILENT_MS);
  const stop = () => {
    clearInterval(timer);
    kernel.iopubMessage.disconnect(hears);
    kernel.disposed.disconnect(stop);
  };
  kernel.iopubMessage.connect(hears);
  kernel.disposed.connect(stop);
  return stop;
}
async function isGone(kernel) {
  const status = kernel.connectionStatus;
  if (status === "connecting" || kernel.status === "dead") return false;
  const answer = await ask(kernel);
  if (answer !== "no" || kernel.connectionStatus !== status) return false;
  return status === "connected" || await import_services.KernelAPI.getKernelModel(kernel.id) !== void 0;
}
function ask(kernel) {
  const { wsUrl, token, appendToken, WebSocket } = import_services.ServerConnection.makeSettings();
  const path = import_coreutils.URLExt.join(wsUrl, "nb/kernels", encodeURIComponent(kernel.id), "line");
  const query = { session_id: kernel.clientId, ...appendToken && token !== "" ? { token } : {} };
  const socket = new WebSocket(path + import_coreutils.URLExt.objectToQueryString(query));
  return new Promise((answered, failed) => {
    const late = setTimeout(() => failed(new Error("no answer")), ANSWER_WITHIN_MS);
    socket.onmessage = ({ data }) => answered(data);
    socket.onclose = () => {
      clearTimeout(late);
      failed(new Error("no answer"));
    };
  }).finally(() => socket.close());
}

// src/mark.ts
function codeCells(panel) {
  const cells = panel.content.widgets.filter((cell) => cell.model.type === "code");
  return cells;
}
function getMark(model) {
  const running = model.getMetadata("nb")?.running;
  if (typeof running?.msg_id !== "string" || typeof running.kernel_id !== "string") return void 0;
  const text = (value) => typeof value === "string" ? value : "";
  return { msg_id: running.msg_id, kernel_id: running.kernel_id, started: text(running.started), last: text(running.last) };
}
function setMark(model, mark) {
  const nb = { ...model.getMetadata("nb") };
  delete nb.running;
  if (mark) nb.running = mark;
  model.sharedModel.transact(() => {
    if (Object.keys(nb).length > 0) model.setMetadata("nb", nb);
    else model.deleteMetadata("nb");
  }, false);
}
function clearMark(model, msgId) {
  if (getMark(model)?.msg_id === msgId) setMark(model, void 0);
}

// src/future.ts
var import_coreutils2 = require("@lumino/coreutils");
var ForeignFuture = class {
  // `ended` is called once, when nobody shows it any more.
  constructor(msgId, kernel, ended) {
    this.kernel = kernel;
    const header = { msg_id: msgId, msg_type: "execute_request" };
    this.msg = { header, parent_header: {}, metadata: {}, content: {}, channel: "shell" };
    this.#ended = ended;
    this.#done.promise.catch(() => void 0);
  }
  kernel;
  onReply = () => void 0;
  onIOPub = () => void 0;
  onStdin = () => void 0;
  msg;
  #done = new import_coreutils2.PromiseDelegate();
  #ended;
  #isDisposed = false;
  get done() {
    return this.#done.promise;
  }
  get isDisposed() {
    return this.#isDisposed;
  }
  take(msg) {
    if (msg.channel === "iopub") void this.onIOPub(msg);
    else if (msg.channel === "stdin") void this.onStdin(msg);
    else if (msg.header.msg_type === "execute_reply") void this.onReply(msg);
  }
  // It is over, as this reply says if there was one.
  finish(reply) {
    this.#done.resolve(reply);
  }
  registerMessageHook(_hook) {
  }
  removeMessageHook(_hook) {
  }
  sendInputReply(content, parentHeader) {
    this.kernel?.sendInputReply(content, parentHeader);
  }
  dispose() {
    if (this.#isDisposed) return;
    this.#isDisposed = true;
    this.#done.reject(new Error("Canceled"));
    this.#ended();
  }
};

// src/journal.ts
var import_coreutils3 = require("@jupyterlab/coreutils");
var import_services2 = require("@jupyterlab/services");
async function readPage(kernel, msgId, after) {
  const settings = import_services2.ServerConnection.makeSettings();
  const query = { limit: "1000", msg_id: msgId, ...after === void 0 ? {} : { after: String(after) } };
  const path = import_coreutils3.URLExt.join(settings.baseUrl, "nb/kernels", encodeURIComponent(kernel), "journal");
  const answer = await import_services2.ServerConnection.makeRequest(path + import_coreutils3.URLExt.objectToQueryString(query), {}, settings);
  if (answer.status === 404 || answer.status === 400) return void 0;
  if (!answer.ok) throw new import_services2.ServerConnection.ResponseError(answer);
  return await answer.json();
}
function joined(said) {
  const streamOf = (msg) => msg?.header.msg_type === "stream" ? msg.content : void 0;
  const all = [];
  let texts = [];
  for (const [at, msg] of said.entries()) {
    const [stream, next] = [streamOf(msg), streamOf(said[at + 1])];
    if (!stream) {
      all.push(msg);
      continue;
    }
    texts.push(stream.text);
    if (next?.name === stream.name) continue;
    all.push({ ...msg, content: { ...stream, text: texts.join("") } });
    texts = [];
  }
  return all;
}

// src/restore.ts
var LOST = "[nb] what the cell said here is not kept any more\n";
var RETRY_FIRST_MS = 1e3;
var RETRY_MAX_MS = 6e4;
var REPLY_MS = 1e3;
var FOREIGN_MS = 5e3;
var isIdleStatus = (msg) => msg.header.msg_type === "status" && msg.content.execution_state === "idle";
var Restore = class {
  // `kernel` is that of the page, when it is the cell's; `over` is called when there is nothing more to do.
  constructor(cell, mark, kernel, over) {
    this.cell = cell;
    this.mark = mark;
    this.kernel = kernel;
    this.over = over;
    this.#last = mark.last;
    this.#future = new ForeignFuture(mark.msg_id, kernel, () => this.#stop());
    kernel?.anyMessage.connect(this.#onAnyMessage, this);
    kernel?.statusChanged.connect(this.#onStatus, this);
    kernel?.connectionStatusChanged.connect(this.#read, this);
    cell.disposed.connect(this.#stop, this);
    void this.#read();
  }
  cell;
  mark;
  kernel;
  over;
  #future;
  #seen = /* @__PURE__ */ new Set();
  #times = {};
  // Live messages that came while the journal is read.
  #waiting = [];
  #after;
  #reply;
  #count = null;
  #idle = false;
  #shown = false;
  #reading = false;
  #readAgain = false;
  #over = false;
  #timer;
  #last;
  // The last message that the outputs have.
  get last() {
    return this.#last;
  }
  #onAnyMessage(_, { msg, direction }) {
    if (direction !== "recv" || msg.parent_header.msg_id !== this.mark.msg_id) return;
    if (this.#reading || !this.#shown) this.#waiting.push(msg);
    else this.#takeLive(msg);
  }
  // What a kernel that ends had left undone is told to the page that had asked for it.
  #onStatus(_, status) {
    if (["restarting", "autorestarting", "dead"].includes(status)) void this.#read();
  }
  // Reads what there is until now; asked again meanwhile, it reads again.
  async #read() {
    this.#readAgain = true;
    if (this.#reading) return;
    this.#reading = true;
    for (let wait = RETRY_FIRST_MS; this.#readAgain && !this.#over; ) {
      this.#readAgain = false;
      try {
        await this.#readOnce();
        wait = RETRY_FIRST_MS;
      } catch (error) {
        console.warn("nb: what a cell has said cannot be fetched", error);
        this.#readAgain = true;
        await new Promise((done) => setTimeout(done, wait));
        wait = Math.min(2 * wait, RETRY_MAX_MS);
      }
    }
    this.#reading = false;
    for (const msg of this.#waiting.splice(0)) this.#takeLive(msg);
  }
  async #readOnce() {
    const pages = [];
    const begin = this.#after;
    let after = begin;
    let until;
    for (; ; ) {
      const page = await readPage(this.mark.kernel_id, this.mark.msg_id, after);
      if (this.#over || getMark(this.cell.model)?.msg_id !== this.mark.msg_id) return this.#stop();
      if (page === void 0) return this.#finish();
      pages.push(page);
      until ??= page.last ?? 0;
      const isLast = page.after >= until || page.after === after;
      after = page.after;
      if (isLast) break;
    }
    this.#after = after;
    const state = pages[0]?.request?.state;
    const said = pages.flatMap((page) => page.entries.map((entry) => entry.message));
    if (state === "unknown" && said.length === 0) {
      if (begin === void 0) return this.#finish();
      this.#after = void 0;
      this.#readAgain = true;
      return;
    }
    const isWhole = pages.every((page) => page.request?.whole);
    this.#takeAll(this.#shown ? said : this.#begin(said, isWhole));
    const isIdle = this.#idle || said.some(isIdleStatus);
    if (state === "over" || state === "unknown" && isIdle) return this.#finish();
    this.#setState("running");
    if (!this.kernel) this.#readLater(FOREIGN_MS);
    else if (this.#idle) this.#readLater(REPLY_MS);
  }
  // Takes the output area over; gives what is to be shown there.
  #begin(said, isWhole) {
    const model = this.cell.model;
    const saved = model.outputs.toJSON();
    this.#shown = true;
    this.cell.outputArea.future = this.#future;
    if (isWhole) {
      model.trusted = true;
      return said;
    }
    if (this.mark.last !== "") model.outputs.fromJSON(saved);
    const at = said.findIndex((msg) => msg.header.msg_id === this.mark.last);
    for (const msg of said.slice(0, at + 1)) this.#seen.add(msg.header.msg_id);
    if (at < 0) model.outputs.add({ output_type: "stream", name: "stderr", text: LOST });
    return said.slice(at + 1);
  }
  #takeAll(said) {
    const fresh = said.filter((msg) => msg.channel !== "stdin" && this.#note(msg));
    for (const msg of joined(fresh)) this.#future.take(msg);
  }
  #takeLive(msg) {
    if (this.#over || !this.#note(msg)) return;
    this.#future.take(msg);
    if (this.#idle && this.#reply) this.#finish();
    else if (this.#idle) this.#readLater(REPLY_MS);
  }
  #readLater(ms) {
    this.#timer ??= setTimeout(() => {
      this.#timer = void 0;
      void this.#read();
    }, ms);
  }
  // Keeps what a message says of count and times, by the names that Lab gives them; whether it is new.
  #note(msg) {
    if (this.#seen.has(msg.header.msg_id)) return false;
    this.#seen.add(msg.header.msg_id);
    if (msg.channel === "iopub") this.#last = msg.header.msg_id;
    const content = msg.content;
    const time = (name, date) => {
      if (typeof date === "string" && date !== "") this.#times[name] = date;
    };
    switch (msg.header.msg_type) {
      case "status":
        time(`iopub.status.${content.execution_state}`, msg.header.date);
        if (isIdleStatus(msg)) this.#idle = true;
        break;
      case "execute_input":
        time("iopub.execute_input", msg.header.date);
        this.#count = content.execution_count ?? this.#count;
        break;
      case "execute_reply":
        time("shell.execute_reply.started", msg.metadata.started);
        time("shell.execute_reply", msg.header.date);
        this.#count = content.execution_count ?? this.#count;
        this.#reply = msg;
        break;
    }
    return true;
  }
  #setState(state) {
    if (!this.#over) this.cell.model.executionState = state;
  }
  // There is nothing more to come.
  #finish() {
    if (this.#over) return;
    const model = this.cell.model;
    this.#setState("idle");
    if (this.#shown) {
      model.executionCount = this.#count;
      const times = { ...model.getMetadata("execution"), ...this.#times };
      model.sharedModel.transact(() => model.setMetadata("execution", times), false);
    }
    clearMark(model, this.mark.msg_id);
    this.#future.finish(this.#reply);
    this.#stop();
  }
  #stop() {
    if (this.#over) return;
    this.#over = true;
    clearTimeout(this.#timer);
    this.kernel?.anyMessage.disconnect(this.#onAnyMessage, this);
    this.kernel?.statusChanged.disconnect(this.#onStatus, this);
    this.kernel?.connectionStatusChanged.disconnect(this.#read, this);
    this.cell.disposed.disconnect(this.#stop, this);
    this.over();
  }
};

// src/notebook.ts
var SAVE_AFTER_MS = 2e3;
var SAVE_SHARE = 10;
var restored = /* @__PURE__ */ new WeakSet();
var WatchedNotebook = class {
  constructor(panel, documents) {
    this.panel = panel;
    this.documents = documents;
    const { context, sessionContext } = panel;
    this.#follow(sessionContext.session?.kernel);
    sessionContext.kernelChanged.connect((_, { newValue }) => this.#follow(newValue));
    context.saveState.connect(this.#onSave, this);
    panel.disposed.connect(() => {
      clearTimeout(this.#saveTimer);
      this.#follow(void 0);
    });
    void this.#open();
  }
  panel;
  documents;
  #running = /* @__PURE__ */ new Map();
  #restores = /* @__PURE__ */ new Map();
  #kernel;
  #unwatch;
  #saveTimer;
  #saveMs = 0;
  #follow(kernel) {
    this.#kernel?.anyMessage.disconnect(this.#onAnyMessage, this);
    this.#unwatch?.();
    this.#kernel = kernel ?? void 0;
    this.#kernel?.anyMessage.connect(this.#onAnyMessage, this);
    this.#unwatch = this.#kernel && watchLine(this.#kernel);
  }
  async #open() {
    await Promise.all([this.panel.context.ready, this.panel.sessionContext.ready, this.panel.revealed]);
    if (this.panel.isDisposed || restored.has(this.panel.context)) return;
    restored.add(this.panel.context);
    const marked = codeCells(this.panel).filter((cell) => getMark(cell.model));
    if (marked.length === 0) return;
    await this.#heard();
    for (const cell of marked) if (!cell.isDisposed) this.#restore(cell);
  }
  // What comes live has to follow what is fetched: nb's first word says that it knows this page.
  async #heard() {
    const kernel = this.#kernel;
    if (!kernel || kernel.status !== "unknown") return;
    await new Promise((done) => {
      kernel.statusChanged.connect(() => done());
      kernel.disposed.connect(() => done());
    });
  }
  #restore(cell) {
    const mark = getMark(cell.model);
    if (!mark || this.#running.has(mark.msg_id) || this.#restores.has(mark.msg_id)) return;
    if (cell.model.executionCount !== null) return clearMark(cell.model, mark.msg_id);
    const kernel = this.#kernel?.id === mark.kernel_id ? this.#kernel : void 0;
    const restore = new Restore(cell, mark, kernel, () => {
      this.#restores.delete(mark.msg_id);
      this.#saveSoon();
    });
    this.#restores.set(mark.msg_id, restore);
  }
  #onAnyMessage(kernel, { msg, direction }) {
    if (direction !== "send" || msg.header.msg_type !== "execute_request") return;
    const cell = this.#cell(msg.metadata.cellId);
    if (!cell || msg.content.silent) return;
    const msgId = msg.header.msg_id;
    setMark(cell.model, { msg_id: msgId, kernel_id: kernel.id, started: (/* @__PURE__ */ new Date()).toISOString(), last: "" });
    this.#saveSoon();
    queueMicrotask(() => this.#watch(cell, msgId));
  }
  // A cell may be another widget than before: deletions are undone.
  #cell(id) {
    return this.panel.isDisposed ? void 0 : codeCells(this.panel).find((cell) => cell.model.id === id);
  }
  #watch(cell, msgId) {
    const future = cell.isDisposed ? void 0 : cell.outputArea.future;
    if (future?.msg.header.msg_id !== msgId) return;
    const running = { id: cell.model.id, last: "" };
    this.#running.set(msgId, running);
    future.registerMessageHook((msg) => {
      running.last = msg.header.msg_id;
      return true;
    });
    const over = () => {
      this.#running.delete(msgId);
      return this.#cell(running.id);
    };
    future.done.then(
      () => {
        const cell2 = over();
        if (cell2) clearMark(cell2.model, msgId);
      },
      () => {
        const cell2 = over();
        if (cell2 && getMark(cell2.model)?.msg_id === msgId) this.#restore(cell2);
      }
    );
  }
  // How far the outputs are that are saved now.
  #onSave(_, state) {
    if (state !== "started") return;
    const update = (cell, msgId, last) => {
      const mark = cell && !cell.isDisposed ? getMark(cell.model) : void 0;
      if (cell && mark?.msg_id === msgId && mark.last !== last) setMark(cell.model, { ...mark, last });
    };
    for (const [msgId, { id, last }] of this.#running) update(this.#cell(id), msgId, last);
    for (const [msgId, restore] of this.#restores) update(restore.cell, msgId, restore.last);
  }
  #saveSoon() {
    this.#saveTimer ??= setTimeout(() => void this.#save(), Math.max(SAVE_AFTER_MS, SAVE_SHARE * this.#saveMs));
  }
  async #save() {
    this.#saveTimer = void 0;
    const { context, isDisposed } = this.panel;
    const { model, contentsModel } = context;
    const isWanted = this.documents?.autosave !== false && model.dirty && !model.readOnly && !model.collaborative;
    if (isDisposed || !isWanted || contentsModel?.writable === false) return;
    if (this.#kernel && this.#kernel.connectionStatus !== "connected") return this.#saveSoon();
    const begun = performance.now();
    try {
      await context.save();
    } catch (error) {
      console.warn("nb: the notebook was not saved", error);
    }
    this.#saveMs = performance.now() - begun;
  }
};

// src/index.ts
var plugin = {
  id: "nb-jupyter-outputs:plugin",
  description: "Gives a notebook what its cells said while its page was closed.",
  autoStart: true,
  requires: [import_notebook.INotebookTracker],
  optional: [import_docmanager.IDocumentManager],
  activate: (_, tracker, documents) => {
    if (import_coreutils4.PageConfig.getOption("nbJupyter") === "") return;
    const watch = (panel) => void new WatchedNotebook(panel, documents);
    tracker.forEach(watch);
    tracker.widgetAdded.connect((_2, panel) => watch(panel));
  }
};
var index_default = plugin;
})(require, module);
      return () => module.exports;
    }
  };
})();
