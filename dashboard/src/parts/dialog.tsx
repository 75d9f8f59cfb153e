// Modal dialogs. This module brings React Aria, so it belongs to chunks that load later.
import type { ReactNode } from "react";
import { Dialog as AriaDialog, Heading, Modal, ModalOverlay } from "react-aria-components";
import { ErrorNote } from "./panel";
import { Button } from "./parts";
import style from "./parts.module.css";

/** One that is not dismissable closes by its own buttons only. */
export function Dialog({ title, onClose, isDismissable = true, children }: {
  title: string;
  onClose: () => void;
  isDismissable?: boolean;
  children: ReactNode;
}) {
  return (
    <ModalOverlay className={style.overlay} isOpen isDismissable={isDismissable} isKeyboardDismissDisabled={!isDismissable} onOpenChange={(isOpen) => isOpen || onClose()}>
      <Modal className={style.modal}>
        <AriaDialog className={style.dialog}>
          <Heading slot="title" level={2}>
            {title}
          </Heading>
          {children}
        </AriaDialog>
      </Modal>
    </ModalOverlay>
  );
}

/** Asks before an act, with what follows from it. */
export function Confirm({ title, act, onAct, onClose, error, isPending, isDangerous = true, children }: {
  title: string;
  act: string;
  onAct: () => void;
  onClose: () => void;
  error?: unknown;
  isPending?: boolean;
  isDangerous?: boolean;
  children: ReactNode;
}) {
  return (
    <Dialog title={title} onClose={onClose}>
      {children}
      {error ? <ErrorNote error={error} /> : null}
      <div className={style.dialogActions}>
        <Button onClick={onClose}>Leave it</Button>
        <Button kind={isDangerous ? "stop" : "main"} onClick={onAct} disabled={isPending}>
          {act}
        </Button>
      </div>
    </Dialog>
  );
}
