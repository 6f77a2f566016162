// A request that another page has sent, as the future of an output area: what it is given is shown as if it were ours.

import type { Kernel, KernelMessage } from '@jupyterlab/services';
import { PromiseDelegate } from '@lumino/coreutils';

type Request = KernelMessage.IExecuteRequestMsg;
type Reply = KernelMessage.IExecuteReplyMsg;
type Hook = (msg: KernelMessage.IIOPubMessage) => boolean | PromiseLike<boolean>;

export class ForeignFuture implements Kernel.IShellFuture<Request, Reply> {
  onReply: (msg: Reply) => void | PromiseLike<void> = () => undefined;
  onIOPub: (msg: KernelMessage.IIOPubMessage) => void | PromiseLike<void> = () => undefined;
  onStdin: (msg: KernelMessage.IStdinMessage) => void | PromiseLike<void> = () => undefined;
  readonly msg: Request;
  #done = new PromiseDelegate<Reply>();
  #ended: () => void;
  #isDisposed = false;

  // `ended` is called once, when nobody shows it any more.
  constructor(msgId: string, readonly kernel: Kernel.IKernelConnection | undefined, ended: () => void) {
    const header = { msg_id: msgId, msg_type: 'execute_request' };
    this.msg = { header, parent_header: {}, metadata: {}, content: {}, channel: 'shell' } as unknown as Request;
    this.#ended = ended;
    // Whoever shows it may not care how it ends.
    this.#done.promise.catch(() => undefined);
  }

  get done(): Promise<Reply> {
    return this.#done.promise;
  }

  get isDisposed(): boolean {
    return this.#isDisposed;
  }

  take(msg: KernelMessage.IMessage): void {
    if (msg.channel === 'iopub') void this.onIOPub(msg as KernelMessage.IIOPubMessage);
    else if (msg.channel === 'stdin') void this.onStdin(msg as KernelMessage.IStdinMessage);
    else if (msg.header.msg_type === 'execute_reply') void this.onReply(msg as Reply);
  }

  // It is over, as this reply says if there was one.
  finish(reply: KernelMessage.IMessage | undefined): void {
    this.#done.resolve(reply as Reply);
  }

  registerMessageHook(_hook: Hook): void {}

  removeMessageHook(_hook: Hook): void {}

  sendInputReply(
    content: KernelMessage.IInputReplyMsg['content'],
    parentHeader: KernelMessage.IInputReplyMsg['parent_header']
  ): void {
    this.kernel?.sendInputReply(content, parentHeader);
  }

  dispose(): void {
    if (this.#isDisposed) return;
    this.#isDisposed = true;
    this.#done.reject(new Error('Canceled'));
    this.#ended();
  }
}
