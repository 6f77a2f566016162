// What a cell's metadata remembers of the request that runs it: `metadata.nb.running`, as docs/outputs.md has it.

import type { CodeCell, ICodeCellModel } from '@jupyterlab/cells';
import type { JSONObject } from '@lumino/coreutils';
import type { NotebookPanel } from '@jupyterlab/notebook';

export interface Mark extends JSONObject {
  msg_id: string;
  kernel_id: string;
  // When it was sent.
  started: string;
  // The last message that the saved outputs have; none when empty.
  last: string;
}

export function codeCells(panel: NotebookPanel): CodeCell[] {
  const cells = panel.content.widgets.filter(cell => cell.model.type === 'code');
  return cells as CodeCell[];
}

export function getMark(model: ICodeCellModel): Mark | undefined {
  const running = (model.getMetadata('nb') as JSONObject | undefined)?.running as JSONObject | undefined;
  if (typeof running?.msg_id !== 'string' || typeof running.kernel_id !== 'string') return undefined;
  const text = (value: unknown) => (typeof value === 'string' ? value : '');
  return { msg_id: running.msg_id, kernel_id: running.kernel_id, started: text(running.started), last: text(running.last) };
}

// Nothing that could be undone.
export function setMark(model: ICodeCellModel, mark: Mark | undefined): void {
  const nb = { ...(model.getMetadata('nb') as JSONObject | undefined) };
  delete nb.running;
  if (mark) nb.running = mark;
  model.sharedModel.transact(() => {
    if (Object.keys(nb).length > 0) model.setMetadata('nb', nb);
    else model.deleteMetadata('nb');
  }, false);
}

// Takes the mark of this request away, and leaves that of another.
export function clearMark(model: ICodeCellModel, msgId: string): void {
  if (getMark(model)?.msg_id === msgId) setMark(model, undefined);
}
