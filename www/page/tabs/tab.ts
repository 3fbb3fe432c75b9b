// The interface of the tabs in the section "Inside the network", and what that section offers to them.

import type { Ablation, Answer, GoogLeNet, StepTime } from 'googlenet-web';
import type { Picture } from '../inside/overlay';

/** Says whether a task is still the latest one. The results of any other are not shown. */
export type IsCurrent = () => boolean;

/** Something that runs on the network and shows its result. */
export type Task = (isCurrent: IsCurrent) => Promise<void>;

/**
 * What a tab knows of the section, and what it can ask for. Its properties exist once a picture has been classified.
 */
export interface View {
  readonly net: GoogLeNet;
  readonly picture: File | HTMLCanvasElement;
  readonly answer: Answer | Ablation;
  /** The gains of the branches that are not 1, by the names of their last layers. */
  readonly gains: Readonly<Record<string, number>>;
  /** The chosen module, or the chosen layer outside of the modules. */
  readonly module: string;
  /** The picture as it is shown, if it is. */
  shown(): Picture | undefined;
  /** Runs a task. Its error is shown, unless another task has begun meanwhile. */
  run(task: Task): void;
  /** Shows an error. */
  complain(error: unknown): void;
  /** Draws everything that depends on the chosen class. */
  showClass(): void;
  /** Shows the times of a run in the map. */
  showTimes(times: StepTime[], isCurrent: IsCurrent): Promise<void>;
  /** Runs the picture again with the gains in force, after other work with the network. */
  restore(net: GoogLeNet): Promise<void>;
  /** Runs work with the same model on the other engine, which is freed afterwards. */
  withOtherEngine(work: (other: GoogLeNet) => Promise<void>): Promise<void>;
}

/** A tab. Only the first three members are required; the others are called where a tab has them. */
export interface Tab {
  /** The id of the tab's panel in index.html. A link names the open tab by it, as `tab=`. */
  readonly panel: string;
  /** The text of the tab's button. */
  readonly label: string;
  /** Connects the controls of the panel. Is called once, when the page starts. */
  connect(view: View): void;
  /** Shows what follows from the network alone. Is called for each picture. */
  showNetwork?(net: GoogLeNet): void;
  /** Removes what was shown about the picture before. */
  clear?(): void;
  /** Draws what follows from the picture, the gains and the chosen class. */
  showPicture?(isCurrent: IsCurrent): Promise<void>;
  /** Draws what follows from the chosen module. Is called only while the tab is open. */
  showModule?(isCurrent: IsCurrent): Promise<void>;
  /**
   * Undoes what work in progress has changed in the network. Is called when another picture is about to be classified.
   */
  interrupt?(): void;
}
