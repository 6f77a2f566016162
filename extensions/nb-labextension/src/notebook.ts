// One open notebook: marks the cells that run, saves it soon so that its file knows them, restores those that it had.

import type { CodeCell } from '@jupyterlab/cells';
import type { IDocumentManager } from '@jupyterlab/docmanager';
import type { DocumentRegistry } from '@jupyterlab/docregistry';
import type { NotebookPanel } from '@jupyterlab/notebook';
import type { Kernel, KernelMessage } from '@jupyterlab/services';

import { watchLine } from './line';
import { clearMark, codeCells, getMark, setMark } from './mark';
import { Restore } from './restore';

// What is over before this is not worth saving for.
const SAVE_AFTER_MS = 1000;

// A notebook that is slow to save is saved less often.
const SAVE_SHARE = 10;

// A cell that runs, and the last message that its outputs have.
interface Running {
  id: string;
  last: string;
}

// Views of one notebook share its cells' outputs: the first of them restores.
const restored = new WeakSet<object>();

export class WatchedNotebook {
  readonly #running = new Map<string, Running>();
  readonly #restores = new Map<string, Restore>();
  #kernel: Kernel.IKernelConnection | undefined;
  #unwatch: (() => void) | undefined;
  #saveTimer: ReturnType<typeof setTimeout> | undefined;
  #saveMs = 0;

  constructor(readonly panel: NotebookPanel, readonly documents: IDocumentManager | null) {
    const { context, sessionContext } = panel;
    this.#follow(sessionContext.session?.kernel);
    sessionContext.kernelChanged.connect((_, { newValue }) => this.#follow(newValue));
    context.saveState.connect(this.#onSave, this);
    panel.disposed.connect(() => {
      clearTimeout(this.#saveTimer);
      this.#follow(undefined);
    });
    void this.#open();
  }

  #follow(kernel: Kernel.IKernelConnection | null | undefined): void {
    this.#kernel?.anyMessage.disconnect(this.#onAnyMessage, this);
    this.#unwatch?.();
    this.#kernel = kernel ?? undefined;
    this.#kernel?.anyMessage.connect(this.#onAnyMessage, this);
    this.#unwatch = this.#kernel && watchLine(this.#kernel);
  }

  async #open(): Promise<void> {
    await Promise.all([this.panel.context.ready, this.panel.sessionContext.ready, this.panel.revealed]);
    if (this.panel.isDisposed || restored.has(this.panel.context)) return;
    restored.add(this.panel.context);
    const marked = codeCells(this.panel).filter(cell => getMark(cell.model));
    if (marked.length === 0) return;
    await this.#heard();
    for (const cell of marked) if (!cell.isDisposed) this.#restore(cell);
  }

  // What comes live has to follow what is fetched: nb's first word says that it knows this page.
  async #heard(): Promise<void> {
    const kernel = this.#kernel;
    if (!kernel || kernel.status !== 'unknown') return;
    await new Promise<void>(done => {
      kernel.statusChanged.connect(() => done());
      kernel.disposed.connect(() => done());
    });
  }

  #restore(cell: CodeCell): void {
    const mark = getMark(cell.model);
    if (!mark || this.#running.has(mark.msg_id) || this.#restores.has(mark.msg_id)) return;
    // With a count it was run by somebody else since.
    if (cell.model.executionCount !== null) return clearMark(cell.model, mark.msg_id);
    const kernel = this.#kernel?.id === mark.kernel_id ? this.#kernel : undefined;
    const restore = new Restore(cell, mark, kernel, () => {
      this.#restores.delete(mark.msg_id);
      this.#saveSoon();
    });
    this.#restores.set(mark.msg_id, restore);
  }

  #onAnyMessage(kernel: Kernel.IKernelConnection, { msg, direction }: Kernel.IAnyMessageArgs): void {
    if (direction !== 'send' || msg.header.msg_type !== 'execute_request') return;
    const cell = this.#cell((msg.metadata as { cellId?: string }).cellId);
    if (!cell || (msg.content as { silent?: boolean }).silent) return;
    const msgId = msg.header.msg_id;
    setMark(cell.model, { msg_id: msgId, kernel_id: kernel.id, started: new Date().toISOString(), last: '' });
    this.#saveSoon();
    // Lab gives the cell its future behind this.
    queueMicrotask(() => this.#watch(cell, msgId));
  }

  // A cell may be another widget than before: deletions are undone.
  #cell(id: string | undefined): CodeCell | undefined {
    return this.panel.isDisposed ? undefined : codeCells(this.panel).find(cell => cell.model.id === id);
  }

  #watch(cell: CodeCell, msgId: string): void {
    const future = cell.isDisposed ? undefined : cell.outputArea.future;
    // It runs in another view of this notebook, which watches it.
    if (future?.msg.header.msg_id !== msgId) return;
    const running: Running = { id: cell.model.id, last: '' };
    this.#running.set(msgId, running);
    future.registerMessageHook((msg: KernelMessage.IIOPubMessage) => {
      running.last = msg.header.msg_id;
      return true;
    });
    const over = () => {
      this.#running.delete(msgId);
      return this.#cell(running.id);
    };
    future.done.then(
      () => {
        const cell = over();
        if (cell) clearMark(cell.model, msgId);
      },
      () => {
        // Lab has lost sight of it: the kernel was restarted, or the cell is run anew and has another mark.
        const cell = over();
        if (cell && getMark(cell.model)?.msg_id === msgId) this.#restore(cell);
      }
    );
  }

  // How far the outputs are that are saved now.
  #onSave(_: unknown, state: DocumentRegistry.SaveState): void {
    if (state !== 'started') return;
    const update = (cell: CodeCell | undefined, msgId: string, last: string) => {
      const mark = cell && !cell.isDisposed ? getMark(cell.model) : undefined;
      if (cell && mark?.msg_id === msgId && mark.last !== last) setMark(cell.model, { ...mark, last });
    };
    for (const [msgId, { id, last }] of this.#running) update(this.#cell(id), msgId, last);
    for (const [msgId, restore] of this.#restores) update(restore.cell, msgId, restore.last);
  }

  #saveSoon(): void {
    this.#saveTimer ??= setTimeout(() => void this.#save(), Math.max(SAVE_AFTER_MS, SAVE_SHARE * this.#saveMs));
  }

  async #save(): Promise<void> {
    this.#saveTimer = undefined;
    const { context, isDisposed } = this.panel;
    const { model, contentsModel } = context;
    const isWanted = this.documents?.autosave !== false && model.dirty && !model.readOnly && !model.collaborative;
    if (isDisposed || !isWanted || contentsModel?.writable === false) return;
    const begun = performance.now();
    try {
      await context.save();
    } catch (error) {
      console.warn('nb: the notebook was not saved', error);
    }
    this.#saveMs = performance.now() - begun;
  }
}
