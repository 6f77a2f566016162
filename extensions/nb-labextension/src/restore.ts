// A marked cell of a notebook that was opened: made from what nb holds of it, and gone on with until it is over.
//
// What comes from the journal and what comes live are told apart by message ids; live messages wait while the
// journal is read, so that all are shown in the order in which the kernel said them.

import type { CodeCell } from '@jupyterlab/cells';
import type { IOutput } from '@jupyterlab/nbformat';
import type { Kernel, KernelMessage } from '@jupyterlab/services';
import type { JSONObject } from '@lumino/coreutils';

import { ForeignFuture } from './future';
import { joined, readPage, type Page } from './journal';
import { clearMark, getMark, type Mark } from './mark';

const LOST = '[nb] what the cell said here is not kept any more\n';

// Between two tries while the gateway is away.
const RETRY_FIRST_MS = 1000;
const RETRY_MAX_MS = 60_000;

// A reply that did not come with its idle is looked for so often.
const REPLY_MS = 1000;

// A cell of a kernel that is not the page's is looked at so often.
const FOREIGN_MS = 5000;

type Message = KernelMessage.IMessage;

const isIdleStatus = (msg: Message): boolean =>
  msg.header.msg_type === 'status' && (msg.content as { execution_state?: string }).execution_state === 'idle';

export class Restore {
  readonly #future: ForeignFuture;
  readonly #seen = new Set<string>();
  readonly #times: JSONObject = {};
  // Live messages that came while the journal is read.
  #waiting: Message[] = [];
  #after: number | undefined;
  #reply: Message | undefined;
  #count: number | null = null;
  #idle = false;
  #shown = false;
  #reading = false;
  #readAgain = false;
  #over = false;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #last: string;

  // `kernel` is that of the page, when it is the cell's; `over` is called when there is nothing more to do.
  constructor(
    readonly cell: CodeCell,
    readonly mark: Mark,
    readonly kernel: Kernel.IKernelConnection | undefined,
    readonly over: () => void
  ) {
    this.#last = mark.last;
    this.#future = new ForeignFuture(mark.msg_id, kernel, () => this.#stop());
    kernel?.anyMessage.connect(this.#onAnyMessage, this);
    kernel?.statusChanged.connect(this.#onStatus, this);
    kernel?.connectionStatusChanged.connect(this.#read, this);
    cell.disposed.connect(this.#stop, this);
    void this.#read();
  }

  // The last message that the outputs have.
  get last(): string {
    return this.#last;
  }

  #onAnyMessage(_: unknown, { msg, direction }: Kernel.IAnyMessageArgs): void {
    if (direction !== 'recv' || (msg.parent_header as { msg_id?: string }).msg_id !== this.mark.msg_id) return;
    if (this.#reading || !this.#shown) this.#waiting.push(msg);
    else this.#takeLive(msg);
  }

  // What a kernel that ends had left undone is told to the page that had asked for it.
  #onStatus(_: unknown, status: Kernel.Status): void {
    if (['restarting', 'autorestarting', 'dead'].includes(status)) void this.#read();
  }

  // Reads what there is until now; asked again meanwhile, it reads again.
  async #read(): Promise<void> {
    this.#readAgain = true;
    if (this.#reading) return;
    this.#reading = true;
    for (let wait = RETRY_FIRST_MS; this.#readAgain && !this.#over; ) {
      this.#readAgain = false;
      try {
        await this.#readOnce();
        wait = RETRY_FIRST_MS;
      } catch (error) {
        console.warn('nb: what a cell has said cannot be fetched', error);
        this.#readAgain = true;
        await new Promise(done => setTimeout(done, wait));
        wait = Math.min(2 * wait, RETRY_MAX_MS);
      }
    }
    this.#reading = false;
    for (const msg of this.#waiting.splice(0)) this.#takeLive(msg);
  }

  async #readOnce(): Promise<void> {
    const pages: Page[] = [];
    const begin = this.#after;
    let after = begin;
    let until: number | undefined;
    for (;;) {
      const page = await readPage(this.mark.kernel_id, this.mark.msg_id, after);
      // Run anew, or gone, while we waited.
      if (this.#over || getMark(this.cell.model)?.msg_id !== this.mark.msg_id) return this.#stop();
      if (page === undefined) return this.#finish();
      pages.push(page);
      // What is over at the first page has said all that is up to its newest number.
      until ??= page.last ?? 0;
      const isLast = page.after >= until || page.after === after;
      after = page.after;
      if (isLast) break;
    }
    this.#after = after;
    const state = pages[0]?.request?.state;
    const said = pages.flatMap(page => page.entries.map(entry => entry.message));
    if (state === 'unknown' && said.length === 0) {
      if (begin === undefined) return this.#finish();
      // It has said nothing more; whether anything is held of it is seen from the beginning.
      this.#after = undefined;
      this.#readAgain = true;
      return;
    }
    const isWhole = pages.every(page => page.request?.whole);
    this.#takeAll(this.#shown ? said : this.#begin(said, isWhole));
    // What a supervisor has forgotten may run on; its idle ends it, also when its reply is not held.
    const isIdle = this.#idle || said.some(isIdleStatus);
    if (state === 'over' || (state === 'unknown' && isIdle)) return this.#finish();
    this.#setState('running');
    if (!this.kernel) this.#readLater(FOREIGN_MS);
    else if (this.#idle) this.#readLater(REPLY_MS);
  }

  // Takes the output area over; gives what is to be shown there.
  #begin(said: Message[], isWhole: boolean): Message[] {
    const model = this.cell.model;
    const saved: IOutput[] = model.outputs.toJSON();
    this.#shown = true;
    this.cell.outputArea.future = this.#future;
    if (isWhole) {
      // All of it is the kernel's.
      model.trusted = true;
      return said;
    }
    // It goes on from what the notebook has.
    if (this.mark.last !== '') model.outputs.fromJSON(saved);
    const at = said.findIndex(msg => msg.header.msg_id === this.mark.last);
    for (const msg of said.slice(0, at + 1)) this.#seen.add(msg.header.msg_id);
    if (at < 0) model.outputs.add({ output_type: 'stream', name: 'stderr', text: LOST });
    return said.slice(at + 1);
  }

  #takeAll(said: Message[]): void {
    // A question that is in the journal was perhaps answered; one that waits is asked again.
    const fresh = said.filter(msg => msg.channel !== 'stdin' && this.#note(msg));
    for (const msg of joined(fresh)) this.#future.take(msg);
  }

  #takeLive(msg: Message): void {
    if (this.#over || !this.#note(msg)) return;
    this.#future.take(msg);
    if (this.#idle && this.#reply) this.#finish();
    else if (this.#idle) this.#readLater(REPLY_MS);
  }

  #readLater(ms: number): void {
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      void this.#read();
    }, ms);
  }

  // Keeps what a message says of count and times, by the names that Lab gives them; whether it is new.
  #note(msg: Message): boolean {
    if (this.#seen.has(msg.header.msg_id)) return false;
    this.#seen.add(msg.header.msg_id);
    if (msg.channel === 'iopub') this.#last = msg.header.msg_id;
    const content = msg.content as { execution_state?: string; execution_count?: number | null };
    const time = (name: string, date: unknown) => {
      if (typeof date === 'string' && date !== '') this.#times[name] = date;
    };
    switch (msg.header.msg_type) {
      case 'status':
        time(`iopub.status.${content.execution_state}`, msg.header.date);
        if (isIdleStatus(msg)) this.#idle = true;
        break;
      case 'execute_input':
        time('iopub.execute_input', msg.header.date);
        this.#count = content.execution_count ?? this.#count;
        break;
      case 'execute_reply':
        time('shell.execute_reply.started', (msg.metadata as JSONObject).started);
        time('shell.execute_reply', msg.header.date);
        this.#count = content.execution_count ?? this.#count;
        this.#reply = msg;
        break;
    }
    return true;
  }

  #setState(state: 'running' | 'idle'): void {
    if (!this.#over) this.cell.model.executionState = state;
  }

  // There is nothing more to come.
  #finish(): void {
    if (this.#over) return;
    const model = this.cell.model;
    this.#setState('idle');
    if (this.#shown) {
      model.executionCount = this.#count;
      const times = { ...(model.getMetadata('execution') as JSONObject | undefined), ...this.#times };
      model.sharedModel.transact(() => model.setMetadata('execution', times), false);
    }
    clearMark(model, this.mark.msg_id);
    this.#future.finish(this.#reply);
    this.#stop();
  }

  #stop(): void {
    if (this.#over) return;
    this.#over = true;
    clearTimeout(this.#timer);
    this.kernel?.anyMessage.disconnect(this.#onAnyMessage, this);
    this.kernel?.statusChanged.disconnect(this.#onStatus, this);
    this.kernel?.connectionStatusChanged.disconnect(this.#read, this);
    this.cell.disposed.disconnect(this.#stop, this);
    this.over();
  }
}
