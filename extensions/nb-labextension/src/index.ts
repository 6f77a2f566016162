// Gives a notebook what its cells said while its page was closed or its packets vanished. Does nothing where the server has no nb behind it.

import type { JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { PageConfig } from '@jupyterlab/coreutils';
import { IDocumentManager } from '@jupyterlab/docmanager';
import { INotebookTracker, type NotebookPanel } from '@jupyterlab/notebook';

import { WatchedNotebook } from './notebook';

const plugin: JupyterFrontEndPlugin<void> = {
  id: 'nb-jupyter-outputs:plugin',
  description: 'Gives a notebook what its cells said while its page was closed.',
  autoStart: true,
  requires: [INotebookTracker],
  optional: [IDocumentManager],
  activate: (_: JupyterFrontEnd, tracker: INotebookTracker, documents: IDocumentManager | null) => {
    if (PageConfig.getOption('nbJupyter') === '') return;
    const watch = (panel: NotebookPanel) => void new WatchedNotebook(panel, documents);
    tracker.forEach(watch);
    tracker.widgetAdded.connect((_, panel) => watch(panel));
  }
};

export default plugin;
