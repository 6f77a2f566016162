// Subshells (JEP 91) and comms of ipykernel 7, as JupyterLab uses them.
// usage: node subshells.mjs BASE_URL TOKEN

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { KernelAPI, KernelManager, CommsOverSubshells } from '@jupyterlab/services';
import { equal, step, within } from './check.mjs';
import { run, settings } from './client.mjs';

const serverSettings = settings(...process.argv.slice(2));
const kernels = new KernelManager({ serverSettings });
const kernel = await kernels.startNew({ name: 'python3' });
const state = async () => (await KernelAPI.getKernelModel(kernel.id, serverSettings)).execution_state;

const create = async () => (await kernel.requestCreateSubshell({}).done).content.subshell_id;
const list = async () => (await kernel.requestListSubshell({}).done).content.subshell_id;
const remove = id => kernel.requestDeleteSubshell({ subshell_id: id }).done;
// A connection whose requests carry the id of a subshell.
async function connected(clientId, subshellId = null) {
  const other = kernels.connectTo({ model: kernel.model, clientId, handleComms: true });
  await other.info;
  other.subshellId = subshellId;
  return other;
}
// A cell that runs until another one defines `name`, or until something else is so.
function held(connection, name, until = `${JSON.stringify(name)} in globals()`) {
  let told;
  const begun = new Promise(resolve => { told = resolve; });
  const code = `import os, time\nprint("begun", flush=True)\nwhile not (${until}): time.sleep(0.005)`;
  const cell = run(connection, code, { onText: text => text.includes('begun') && told() });
  return within(begun, `the beginning of ${name}`).then(() => ({ cell }));
}
const ECHO = `opened = []
def target(comm, message):
    opened.append(comm)
    comm.send({"opened": message["content"]["data"]}, buffers=message["buffers"])
    @comm.on_msg
    def echo(msg):
        data = msg["content"]["data"]
        if data.get("method") == "request_state":
            comm.send({"method": "update", "state": {"value": 7}})
        else:
            comm.send(data, buffers=msg["buffers"])
    @comm.on_close
    def close(msg):
        print("closed with", [bytes(b).hex() for b in msg["buffers"]])
get_ipython().kernel.comm_manager.register_target("echo", target)`;
const hex = buffers => buffers.map(view => Buffer.from(view.buffer ?? view).toString('hex'));
const next = comm => within(new Promise(resolve => { comm.onMsg = resolve; }), 'a message of the comm');
const bytes = (...values) => new Uint8Array(values).buffer;

let first, second, main, one, two;
await step('subshells are made and listed', async () => {
  await kernel.info;
  equal(kernel.supportsSubshells, true, 'whether there are subshells');
  equal(await list(), [], 'the subshells');
  [first, second] = [await create(), await create()];
  equal((await list()).sort(), [first, second].sort(), 'the subshells');
  [one, two] = [await connected('one', first), await connected('two', second)];
});
await step('the kernel is busy until the last of several cells is done', async () => {
  main = await held(kernel, 'go_main');
  const sub = await held(one, 'go_one');
  equal(await state(), 'busy', 'the state');
  await run(two, 'go_main = True');
  await main.cell;
  equal(await state(), 'busy', 'the state while a subshell works');
  await run(two, 'go_one = True');
  await sub.cell;
  equal(await state(), 'idle', 'the state');
});
await step('our magic works in a subshell while the main shell is busy', async () => {
  main = await held(kernel, 'go_magic');
  equal((await run(one, 'x = %nb status\nprint("kernel" in str(x))')).text, 'True\n', 'the status');
  await run(two, 'go_magic = True');
  await main.cell;
});
await step('a failed cell of one subshell aborts nothing in another', async () => {
  const [failed, fine] = await Promise.all([run(one, '1 / 0'), run(two, 'print("here")')]);
  equal([failed.reply.ename, fine.text], ['ZeroDivisionError', 'here\n'], 'the cells');
});
await step('an interrupt ends the cell of the main shell and none of a subshell', async () => {
  main = await held(kernel, 'never');
  const sub = await held(one, 'go_on');
  await kernel.interrupt();
  equal((await main.cell).reply.ename, 'KeyboardInterrupt', 'the error');
  equal(await state(), 'busy', 'the state');
  await run(two, 'go_on = True');
  equal((await sub.cell).reply.status, 'ok', 'the cell in the subshell');
});
await step('a subshell is deleted while it is busy, and the others go on', async () => {
  // ipykernel hears nothing on any shell until the cell in that subshell has ended.
  const folder = mkdtempSync(join(tmpdir(), 'nb-subshell-'));
  const go = join(folder, 'go');
  // And it loses the reply of that cell.
  await held(one, 'go_last', `os.path.exists(${JSON.stringify(go)})`);
  const deleted = remove(first);
  const main = run(kernel, 'print("main")');
  equal(await state(), 'busy', 'the state');
  writeFileSync(go, '');
  equal((await within(deleted, 'the end of the subshell')).content.status, 'ok', 'the reply');
  equal((await main).text, 'main\n', 'the main shell');
  rmSync(folder, { recursive: true });
  equal(await list(), [second], 'the subshells');
  equal(await state(), 'idle', 'the state');
});
await step('what is no subshell cannot be deleted', async () => {
  equal((await remove('nonsense')).content.status, 'error', 'the reply');
});
let comm, late;
await step('a comm is opened, used and closed, with buffers both ways', async () => {
  kernel.commsOverSubshells = CommsOverSubshells.Disabled;
  await run(kernel, ECHO);
  comm = kernel.createComm('echo');
  const opened = next(comm);
  comm.open({ n: 1 }, {}, [bytes(1, 0xff)]);
  equal([(await opened).content.data, hex((await opened).buffers)], [{ opened: { n: 1 } }, ['01ff']], 'what came back');
  const sent = next(comm);
  comm.send({ n: 2 }, {}, [bytes(), bytes(0, 0xfe)]);
  equal([(await sent).content.data, hex((await sent).buffers)], [{ n: 2 }, ['', '00fe']], 'what came back');
});
await step('a client that comes later finds the comms and asks for their state', async () => {
  late = await connected('late');
  const { content } = await late.requestCommInfo({ target_name: 'echo' });
  equal(content.comms, { [comm.commId]: { target_name: 'echo' } }, 'the comms');
  late.commsOverSubshells = CommsOverSubshells.Disabled;
  const theirs = late.createComm('echo', comm.commId);
  const told = next(theirs);
  theirs.send({ method: 'request_state' });
  equal((await told).content.data.state, { value: 7 }, 'the state');
});
await step('a closed comm is gone for everybody', async () => {
  const future = comm.close({}, {}, [bytes(9)]);
  let text = '';
  future.onIOPub = ({ header, content }) => { if (header.msg_type === 'stream') text += content.text; };
  await future.done;
  equal(text, "closed with ['09']\n", 'what the kernel got');
  equal((await late.requestCommInfo({})).content.comms, {}, 'the comms');
});
await step('comms go over a subshell of their own while a cell runs', async () => {
  kernel.commsOverSubshells = CommsOverSubshells.PerCommTarget;
  const busy = await held(kernel, 'go_comm');
  const own = kernel.createComm('echo');
  await within(own.subshellStarted ?? Promise.resolve(), 'the subshell of the comm');
  const opened = next(own);
  own.open({ n: 3 });
  equal((await opened).content.data, { opened: { n: 3 } }, 'what came back');
  const sent = next(own);
  own.send({ n: 4 }, {}, [bytes(5)]);
  equal([(await sent).content.data, hex((await sent).buffers)], [{ n: 4 }, ['05']], 'what came back');
  equal(await state(), 'busy', 'the state');
  await run(two, 'go_comm = True');
  await busy.cell;
});
await step('a restart ends all subshells', async () => {
  await kernel.restart();
  await kernel.info;
  equal(await list(), [], 'the subshells');
});
await kernel.shutdown();
process.exit(0);
