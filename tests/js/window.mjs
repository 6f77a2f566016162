// A window of VS Code as a gateway sees it: the library's managers with VS Code's settings, and its own sockets.

import { KernelManager, ServerConnection, SessionManager } from '@jupyterlab/services';
import WebSocket from 'ws';

// A window: its own manager, and sockets that go as they do when the window does, without a goodbye.
export class Window {
  sockets = [];
  constructor(baseUrl, token) {
    const { sockets } = this;
    class Socket extends WebSocket {
      constructor(url, protocols) {
        super(url, protocols, { headers: { Authorization: `token ${token}` } });
        sockets.push(this);
      }
    }
    const serverSettings = ServerConnection.makeSettings({
      baseUrl, wsUrl: baseUrl.replace(/^http/, 'ws'), token, appendToken: true, WebSocket: Socket, init: { cache: 'no-store', credentials: 'same-origin' },
    });
    this.kernels = new KernelManager({ serverSettings });
    this.sessions = new SessionManager({ serverSettings, kernelManager: this.kernels });
  }
  // Returns once the gateway knows that the window has what it has: the first round brings its ping, the second takes
  // the answer back.
  async settle() {
    const socket = this.sockets.at(-1);
    for (let round = 0; round < 2; round++)
      await new Promise(resolve => { socket.once('pong', resolve); socket.ping(); });
  }
  vanish() {
    this.sockets.forEach(socket => socket.terminate());
    this.sessions.dispose();
    this.kernels.dispose();
  }
}
