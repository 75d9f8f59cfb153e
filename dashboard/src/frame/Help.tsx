import { useState } from "react";
import { Dialog } from "../parts/dialog";
import { setSingleKeys, singleKeys } from "./preferences";
import { SHORTCUTS } from "./shortcuts";

export default function Help({ onClose }: { onClose: () => void }) {
  const [isOn, setOn] = useState(singleKeys);
  return (
    <Dialog title="Keys" onClose={onClose}>
      <table>
        <tbody>
          {SHORTCUTS.map(([keys, meaning]) => (
            <tr key={keys}>
              <td>
                <kbd>{keys}</kbd>
              </td>
              <td>{meaning}</td>
            </tr>
          ))}
        </tbody>
      </table>
      <label className="row">
        <input
          type="checkbox"
          checked={isOn}
          onChange={(event) => {
            setSingleKeys(event.target.checked);
            setOn(event.target.checked);
          }}
        />
        Single keys act
      </label>
    </Dialog>
  );
}
