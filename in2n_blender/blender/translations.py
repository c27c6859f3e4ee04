"""The sidebar's words in other languages, by Blender's own mechanism.

Keys are (context, English text) as `bpy.app.translations` wants them: "Operator" for buttons, "*" for all else. A
language is added by a dictionary beside GERMAN; what a dictionary lacks stays English.
"""

from __future__ import annotations

import bpy

from .settings import ADD_ON

_GERMAN_TEXTS = {
    # panels
    "Capture": "Aufnahme",
    "Reconstruct": "Rekonstruieren",
    "Edit": "Bearbeiten",
    "Edits": "Bearbeitungen",
    "Results": "Ergebnisse",
    "Report": "Bericht",
    "Guidance": "Führung",
    "Place in Scene": "In der Szene platzieren",
    "Edit Presets": "Vorgaben für Bearbeitungen",
    "Edit Specials": "Weiteres zur Bearbeitung",
    "Instructions": "Anweisungen",
    "Capture (IN2N)": "Aufnahme (IN2N)",
    # sentences
    "Begins with this picture": "Beginnt mit diesem Bild",
    "Import a capture first.": "Zuerst eine Aufnahme importieren.",
    "Install the engine first.": "Zuerst die Engine installieren.",
    "Reconstruct the capture first.": "Zuerst die Aufnahme rekonstruieren.",
    "The engine is not installed yet. It reconstructs and edits.": (
        "Die Engine ist noch nicht installiert. Sie rekonstruiert und bearbeitet."
    ),
    "Behind the cameras {count} photos are undistorted: at full size when looked through.": (
        "Hinter den Kameras sind {count} Fotos entzerrt: in voller Größe, wenn hindurchgesehen wird."
    ),
    "Or drop the file that lists its cameras, a .zip, a video or photos into the viewport.": (
        "Oder die Datei, in der ihre Kameras stehen, eine .zip, ein Video oder Fotos in die Ansicht ziehen."
    ),
    "A scratch folder: the .blend had not been saved when the capture was imported.": (
        "Ein vorläufiger Ordner: Die .blend-Datei war beim Importieren noch nicht gespeichert."
    ),
    "{view} changes the photos' colors.": "{view} ändert die Farben der Fotos.",
    "Nothing edited yet.": "Noch nichts bearbeitet.",
    "Type what to change, or choose it from the list.": "Eintippen, was sich ändern soll, oder aus der Liste wählen.",
    "This model does not know that.": "Dieses Modell kennt das nicht.",
    "This model knows that.": "Dieses Modell kennt das.",
    "This model takes any text.": "Dieses Modell nimmt jeden Text.",
    "There is no such model.": "Ein solches Modell gibt es nicht.",
    "This folder holds no model.": "In diesem Ordner ist kein Modell.",
    "Choose the model's folder.": "Den Ordner des Modells wählen.",
    "The model is not on this computer.": "Das Modell ist nicht auf diesem Rechner.",
    "The workspace is missing: see Capture.": "Der Arbeitsordner fehlt: siehe Aufnahme.",
    "Workspace “{name}” is missing.": "Der Arbeitsordner „{name}“ fehlt.",
    "Move the workspace?": "Den Arbeitsordner verschieben?",
    "Move and Save": "Verschieben und speichern",
    "The .blend is saved afterwards, so that it finds the workspace again.": (
        "Danach wird die .blend-Datei gespeichert, damit sie den Arbeitsordner wiederfindet."
    ),
    "Not finished yet.": "Noch nicht fertig.",
    "Reconstructed.": "Rekonstruiert.",
    "Reconstructed: {psnr:.1f} dB on the held-out photos.": (
        "Rekonstruiert: {psnr:.1f} dB auf den zurückgehaltenen Fotos."
    ),
    "Reconstructed: {psnr:.1f} dB on the held-out photos, colours fitted.": (
        "Rekonstruiert: {psnr:.1f} dB auf den zurückgehaltenen Fotos, Farben angeglichen."
    ),
    "Not reconstructed yet.": "Noch nicht rekonstruiert.",
    "Click a picture to see it large and take it": "Auf ein Bild klicken: groß sehen und übernehmen",
    "Use This Guidance: {scales}": "Diese Führung verwenden: {scales}",
    "Use This Picture": "Dieses Bild verwenden",
    "The photo as it was taken": "Das Foto, wie es aufgenommen wurde",
    "Edit with the guidance of this picture": "Mit der Führung dieses Bildes bearbeiten",
    "Begin the edit with this very picture": "Die Bearbeitung mit genau diesem Bild beginnen",
    "Photo {name}": "Foto {name}",
    "Photos of {width} × {height} pixels": "Fotos von {width} × {height} Pixeln",
    "Photos stay {width} × {height}, as imported with {imported}": (
        "Fotos bleiben {width} × {height}, wie mit {imported} importiert"
    ),
    ": they are no larger": ": größer sind sie nicht",
    ": for others, import again with {preset}": ": für andere neu mit {preset} importieren",
    "Type what to change.": "Eintippen, was sich ändern soll.",
    "No edit yet: type an instruction above.": "Noch keine Bearbeitung: oben eine Anweisung eintippen.",
    "Make it look like autumn": "Make it look like autumn",  # the editing models read English
    "On {photo}. Below each: text · image": "Auf {photo}. Jeweils darunter: Text · Bild",
    "Its frames and its mesh are removed from the disk too. This cannot be undone.": (
        "Auch ihre Bilder und ihr Mesh werden von der Festplatte entfernt. Das kann nicht rückgängig gemacht werden."
    ),
    "Remove “{name}”?": "„{name}“ entfernen?",
    "Remove": "Entfernen",
    "Edit as in this picture. {guidance}": "Wie in diesem Bild bearbeiten. {guidance}",
    "Reconstruct again?": "Neu rekonstruieren?",
    "The reconstruction that is there is replaced. Edits stay as they are.": (
        "Die vorhandene Rekonstruktion wird ersetzt. Bearbeitungen bleiben, wie sie sind."
    ),
    "Finish the reconstruction first.": "Zuerst die Rekonstruktion fertigstellen.",
    "This edit is not finished: results show how far it is.": (
        "Diese Bearbeitung ist nicht fertig: Ergebnisse zeigen, wie weit sie ist."
    ),
    "The photos changed after this was made.": "Die Fotos haben sich geändert, seit dies erzeugt wurde.",
    "Made from an earlier reconstruction.": "Aus einer früheren Rekonstruktion erzeugt.",
    "Made from an earlier state of the scene.": "Aus einem früheren Stand der Szene erzeugt.",
    "Made by another version of the engine.": "Von einer anderen Version der Engine erzeugt.",
    "Make “{name}” again?": "„{name}“ noch einmal erzeugen?",
    "It is replaced when the new one is done.": "Sie wird ersetzt, sobald die neue fertig ist.",
    "Make Again": "Noch einmal erzeugen",
    "“{camera}” is a photo's camera: the shot is rendered from there.": (
        "„{camera}“ ist die Kamera eines Fotos: Von dort wird gerendert."
    ),
    # render engine
    "Captured Scene": "Aufgenommene Szene",
    "Film": "Film",
    "Motion Blur": "Bewegungsunschärfe",
    "Passes": "Passes",
    "Matte": "Maske",
    "Data": "Daten",
    "Transparent": "Transparent",
    "Position": "Position",
    "Blur": "Unschärfe",
    "As the scene “{name}” says.": "Wie die Szene „{name}“ es sagt.",
    # labels
    "{count} photos": "{count} Fotos",
    "{count} points": "{count} Punkte",
    "{count} missing": "{count} fehlen",
    "{count} masks": "{count} Masken",
    "Frames {first}–{last}, {camera}": "Bilder {first}–{last}, {camera}",
    "no camera": "keine Kamera",
    "Of “{name}”": "Von „{name}“",
    "Of the unedited capture": "Von der unbearbeiteten Aufnahme",
    "It is made with its last instruction and guidance throughout.": (
        "Sie wird durchgehend mit ihrer letzten Anweisung und Führung erzeugt."
    ),
    "From edit {number}: “{instruction}”": "Ab Bild {number}: „{instruction}“",
    "From edit {number}: {guidance}": "Ab Bild {number}: {guidance}",
    "From edit {number}: another region": "Ab Bild {number}: ein anderer Bereich",
    "Text {text:g} · Image {image:g}": "Text {text:g} · Bild {image:g}",
    "Text {text:g}": "Text {text:g}",
    "Needs no guidance": "Braucht keine Führung",
    "{guidance} · Seed {seed}": "{guidance} · Startwert {seed}",
    "Within a Region": "In einem Bereich",
    "Then: {job}": "Danach: {job}",
    "{job}: {percent} % done.": "{job}: {percent} % fertig.",
    "Photo": "Foto",
    "Used Before": "Bereits verwendet",
    "Suggestions": "Vorschläge",
    "This Model Knows": "Dieses Modell kennt",
    "Model Defaults": "Vorgaben des Modells",
    "Mesh Grid": "Mesh-Raster",
    "Dataset": "Datensatz",
    "Mesh": "Mesh",
    "{count} faces": "{count} Flächen",
    "Splats": "Splats",
    "Background": "Hintergrund",
    "Mesh Options": "Mesh-Optionen",
    "Collision Mesh": "Kollisions-Mesh",
    "Texture": "Textur",
    "Textured Faces": "Flächen mit Textur",
    "Collision Faces": "Kollisionsflächen",
    "Watertight": "Geschlossen",
    "{count} splats": "{count} Splats",
    "{count} pictures": "{count} Bilder",
    "Look Through Photos": "Durch Fotos blicken",
    # properties
    "Instruction": "Anweisung",
    "Model": "Modell",
    "Model Folder": "Modellordner",
    "Preset": "Vorgabe",
    "Corrections": "Korrekturen",
    "Even Out Exposure": "Belichtung ausgleichen",
    "Refine Cameras": "Kameras verfeinern",
    "Device": "Gerät",
    "Show When Done": "Zeigen, sobald fertig",
    "Show Scene": "Szene zeigen",
    "Quick Mesh": "Schnelles Mesh",
    "Hold Out Every": "Zurückhalten jedes",
    "Photos Outside the Folder": "Fotos außerhalb des Ordners",
    "Seed": "Startwert",
    "Method": "Verfahren",
    "Region": "Bereich",
    "Keep": "Behalten",
    "Soft Edge": "Weicher Rand",
    "Text": "Text",
    "Image": "Bild",
    "Negative Prompt": "Negativer Prompt",
    "Text Guidance": "Textführung",
    "Image Guidance": "Bildführung",
    "Start Over": "Neu beginnen",
    "Build On": "Aufbauen auf",
    "Rounds": "Runden",
    "Steps": "Schritte",
    "Resolution": "Auflösung",
    "Miniature": "Miniatur",
    "Before": "Vorher",
    "Frames": "Bilder",
    "Back": "Hinten",
    "Front": "Vorn",
    "Camera Background": "Kamerahintergrund",
    "Movie Clip": "Filmclip",
    "Compositor": "Compositor",
    "Sequencer": "Sequencer",
    "After": "Nachher",
    "Draft": "Entwurf",
    "Automatic": "Automatisch",
}
_GERMAN_BUTTONS = {
    "Import Capture": "Aufnahme importieren",
    "Import Capture…": "Aufnahme importieren …",
    "Copy Report": "Bericht kopieren",
    "Earlier Results": "Frühere Ergebnisse",
    "Import Photos or Video…": "Fotos oder Video importieren …",
    "Photos or Video for Editing (IN2N)": "Fotos oder Video zum Bearbeiten (IN2N)",
    "Import Another…": "Weitere importieren …",
    "Look Through Photo": "Durch Foto blicken",
    "Back to Shot Camera": "Zurück zur Kamera der Szene",
    "Missing Photos": "Fehlende Fotos",
    "Open Report": "Bericht öffnen",
    "Set Up Axis": "Oben festlegen",
    "Set Ground from Selection": "Boden aus Auswahl festlegen",
    "Ground from Selection": "Boden aus Auswahl",
    "Set Scale from Distance": "Maßstab aus Abstand festlegen",
    "Scale by Distance…": "Maßstab aus Abstand …",
    "Move Beside the .blend": "Neben die .blend-Datei verschieben",
    "Install Engine": "Engine installieren",
    "Reconstruct": "Rekonstruieren",
    "Reconstruct Again": "Neu rekonstruieren",
    "Keep and Reconstruct": "Behalten und rekonstruieren",
    "Continue Reconstruction": "Rekonstruktion fortsetzen",
    "Edit": "Bearbeiten",
    "Start Edit": "Bearbeitung starten",
    "Edit Next": "Danach bearbeiten",
    "Use Standard for This Scene": "Standard für diese Szene verwenden",
    "Locate…": "Suchen …",
    "Begin Anew": "Neu beginnen",
    "Open Preferences": "Einstellungen öffnen",
    "Documentation": "Dokumentation",
    "Report a Problem": "Problem melden",
    "Add Region": "Bereich hinzufügen",
    "Preview": "Vorschau",
    "Preview Grid": "Vorschauraster",
    "Preview One": "Eine Vorschau",
    "Use This Guidance": "Diese Führung verwenden",
    "Clear History": "Verlauf leeren",
    "Set Instruction": "Anweisung übernehmen",
    "Add Edit Preset": "Vorgabe hinzufügen",
    "Rename Edit": "Bearbeitung umbenennen",
    "Rename…": "Umbenennen …",
    "Duplicate Edit": "Bearbeitung duplizieren",
    "Remove Edit": "Bearbeitung entfernen",
    "Use Its Settings": "Einstellungen übernehmen",
    "Make Again": "Noch einmal erzeugen",
    "Make Beside": "Daneben erzeugen",
    "Apply From Here": "Ab hier anwenden",
    "Continue Edit": "Bearbeitung fortsetzen",
    "Build on This Edit": "Auf dieser Bearbeitung aufbauen",
    "Toggle Before/After": "Vorher/Nachher umschalten",
    "Open Folder": "Ordner öffnen",
    "Render Frames": "Bilder rendern",
    "Load Frames": "Bilder laden",
    "Extract Mesh": "Mesh erzeugen",
    "Composite with Scene": "Mit der Szene zusammensetzen",
    "Remove Composite": "Zusammensetzung entfernen",
    "Show Mesh Colors": "Farben der Meshes zeigen",
    "Load Mesh": "Mesh laden",
    "Load": "Laden",
    "Show": "Zeigen",
    "Export…": "Exportieren …",
    "Export Dataset": "Datensatz exportieren",
    "Make Splats": "Splats erzeugen",
    "Mark as Asset": "Als Asset markieren",
    "Cancel": "Abbrechen",
    "Resume": "Fortsetzen",
    "Show Log": "Protokoll zeigen",
}
GERMAN = {
    **{("*", text): german for text, german in _GERMAN_TEXTS.items()},
    **{("Operator", text): german for text, german in _GERMAN_BUTTONS.items()},
}

# A language's code without a country serves all of its countries.
TRANSLATIONS = {"de": GERMAN}


def attach() -> None:
    """Give Blender the interface's translations."""
    bpy.app.translations.register(ADD_ON, TRANSLATIONS)


def detach() -> None:
    """Take the translations from Blender."""
    bpy.app.translations.unregister(ADD_ON)
